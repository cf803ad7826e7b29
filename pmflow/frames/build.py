"""The frame that was asked for, or the next one that exists."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pmflow.errors import ParameterError
from pmflow.frames.frame import Frame
from pmflow.frames.gaussian import gaussian_frame
from pmflow.frames.laplace import NoModeError, laplace_frame
from pmflow.frames.pathfinder import pathfinder_frame
from pmflow.posterior.density import LogDensity
from pmflow.watch import Stopped, Watch, is_watched, result_exists, watching

__all__ = ["FRAMES", "build_frame", "checked_frame"]

FRAMES = ("laplace", "pathfinder", "gaussian")

_STOPPED = {
    "interrupted": "The search was interrupted",
    "time": "The search ran out of the seconds given",
}

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
    kind: str, density: LogDensity, start: NDArray[np.float64], seed: int
) -> Frame | None:
    """Find a frame; where there is none of the kind, the next one, and its `note` says why.

    Parameters
    ----------
    kind : str
        One of `FRAMES`.
    density : LogDensity
    start : ndarray, shape (dim,)
        Where the search begins, unconstrained.
    seed : int

    Returns
    -------
    Frame or None
        None where the density is finite nowhere on the way. The best one so far, where the search
        was stopped and the caller has a watch open, which knows of it.

    Raises
    ------
    Stopped
        If the search was stopped before there was a frame, or nobody would know of it.
    """
    is_known = is_watched()
    with watching(progressbar=False) as watch:
        frame = _search(kind, density, start, seed, watch)
        if not is_known:
            watch.look()
    if frame is not None and frame.note:
        _log.info(frame.note)
    return frame


def _search(
    kind: str, density: LogDensity, start: NDArray[np.float64], seed: int, watch: Watch
) -> Frame | None:
    note = ""
    frame: Frame | None = None
    way: Frame | None = None
    if kind != "pathfinder":
        try:
            frame = laplace_frame(density, start)
        except NoModeError as error:
            note, way = f"No Laplace frame, because {error}.", error.frame
    if frame is None:
        try:
            frame = pathfinder_frame(density, start, seed)
        except NoModeError as error:
            note += f" No pathfinder frame, because {error}. No frame is used."
            _log.warning(note.strip())
            return None
        except Stopped:
            if way is None:
                raise
            frame = way
        if note:
            note += " Pathfinder's is used." if frame.kind == "pathfinder" else ""
    result_exists()
    if kind == "gaussian" and not watch.is_stopped:
        try:
            frame = gaussian_frame(density, frame, seed)
        except NoModeError as error:
            note += f" No Gaussian of largest ELBO, because {error}; it stays as it is."
    if watch.why is not None:
        note += f" {_STOPPED[watch.why]}: this is the best frame so far."
    return replace(frame, note=note.strip())
