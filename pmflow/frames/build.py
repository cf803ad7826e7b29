"""The frame that was asked for, or the next one that exists."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pmflow.density import LogDensity
from pmflow.errors import ParameterError
from pmflow.frames.frame import Frame
from pmflow.frames.gaussian import gaussian_frame
from pmflow.frames.laplace import NoModeError, laplace_frame
from pmflow.frames.pathfinder import pathfinder_frame

__all__ = ["FRAMES", "build_frame", "checked_frame"]

FRAMES = ("laplace", "pathfinder", "gaussian")

_log = logging.getLogger("pmflow")


def checked_frame(frame: str | Frame | None) -> str | Frame | None:
    """What the user gave for `frame`.

    Raises
    ------
    ParameterError
        If it is neither a frame nor the name of one.
    """
    if frame is None or isinstance(frame, Frame):
        return frame
    if not isinstance(frame, str) or frame.lower() not in FRAMES:
        raise ParameterError(
            f"frame must be one of {', '.join(map(repr, FRAMES))}, a Frame, or None, "
            f"but is {frame!r}."
        )
    return frame.lower()


def build_frame(
    kind: str | Frame, density: LogDensity, start: NDArray[np.float64], seed: int
) -> Frame | None:
    """Find a frame; where there is none of the kind, the next one, and its `note` says why.

    Parameters
    ----------
    kind : str or Frame
        One of `FRAMES`, or a frame, whose length is checked.
    density : LogDensity
    start : ndarray, shape (dim,)
        Where the search begins, unconstrained.
    seed : int

    Returns
    -------
    Frame or None
        None where the density is finite nowhere on the way.
    """
    if isinstance(kind, Frame):
        if kind.dim != density.dim:
            raise ParameterError(
                f"The frame has {kind.dim} dimensions, but the latent vector has {density.dim}."
            )
        return kind
    note = ""
    frame: Frame | None = None
    if kind != "pathfinder":
        try:
            frame = laplace_frame(density, start)
        except NoModeError as error:
            note = f"No Laplace frame, because {error}; pathfinder's is used."
    if frame is None:
        try:
            frame = pathfinder_frame(density, start, seed)
        except NoModeError as error:
            _log.warning("%s", f"{note} No frame at all, because {error}.".strip())
            return None
    if kind == "gaussian":
        frame = gaussian_frame(density, frame, seed)
    if note:
        _log.info(note)
    return replace(frame, note=note)
