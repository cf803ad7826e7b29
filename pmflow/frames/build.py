"""The frame that was asked for, or the next one that exists."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pmflow.errors import ParameterError
from pmflow.frames.frame import Frame
from pmflow.frames.gaussian import gaussian_frame
from pmflow.frames.laplace import NoModeError, laplace_frame
from pmflow.frames.pathfinder import PATHS, pathfinder_frame
from pmflow.posterior.density import LogDensity
from pmflow.records import State
from pmflow.watch import Stopped, Watch, is_watched, result_exists, watching

__all__ = ["FRAMES", "FoundFrame", "build_frame", "checked_frame"]

FRAMES = ("laplace", "pathfinder", "gaussian")

_STOPPED = {
    "interrupted": "The search was interrupted",
    "time": "The search ran out of the seconds given",
}

_log = logging.getLogger("pmflow")


def checked_frame(frame: str | Frame | None, kinds: Sequence[str] = FRAMES) -> str | Frame | None:
    """What the user gave for `frame`: one, or a name of one, of some kinds.

    Raises
    ------
    ParameterError
        If it is neither a frame nor the name of one.
    """
    if frame is None or isinstance(frame, Frame):
        return frame
    if not isinstance(frame, str) or frame.lower() not in kinds:
        raise ParameterError(
            f"frame must be one of {', '.join(map(repr, kinds))}, a Frame, or None, "
            f"but is {frame!r}."
        )
    return frame.lower()


@dataclass(frozen=True, eq=False)
class FoundFrame(State):
    """A frame, and how it was come by.

    Attributes
    ----------
    begun : Frame
        Mode and curvature, or the best Gaussian on a path: where the search for the Gaussian began.
    frame : Frame
        What was found.
    """

    begun: Frame
    frame: Frame


def build_frame(
    kind: str,
    density: LogDensity,
    start: NDArray[np.float64],
    seed: int,
    known: Sequence[FoundFrame] = (),
) -> FoundFrame | None:
    """Find a frame; where there is none of the kind, the next one, and its `note` says why.

    Parameters
    ----------
    kind : str
        One of `FRAMES`.
    density : LogDensity
    start : ndarray, shape (dim,)
        Where the search begins, unconstrained.
    seed : int
    known : sequence of FoundFrame
        What other starts have found.

    Returns
    -------
    FoundFrame or None
        None where the density is finite nowhere on the way. The best one so far, where the search
        was stopped and the caller has a watch open, which knows of it. One of `known`, itself,
        where the search was seen to end there: then it is not gone through again.

    Raises
    ------
    Stopped
        If the search was stopped before there was a frame, or nobody would know of it.
    """
    is_known = is_watched()
    with watching(progressbar=False) as watch:
        found = _search(kind, density, start, seed, known, watch)
        if not is_known:
            watch.look()
    if found is not None and found.frame.note and not any(found is other for other in known):
        _log.info(found.frame.note)
    return found


def _search(
    kind: str,
    density: LogDensity,
    start: NDArray[np.float64],
    seed: int,
    known: Sequence[FoundFrame],
    watch: Watch,
) -> FoundFrame | None:
    note = ""
    begun: Frame | None = None
    way: Frame | None = None
    modes = [one for one in known if one.begun.kind == "laplace"]
    if kind != "pathfinder" and (modes or not known):  # where one start has no mode, none has
        try:
            begun = laplace_frame(density, start, [one.begun for one in modes])
        except NoModeError as error:
            note, way = f"No Laplace frame, because {error}.", error.frame
    if begun is None:
        try:
            begun = pathfinder_frame(density, start, seed, paths=1 if known else PATHS)
        except NoModeError as error:
            note += f" No pathfinder frame, because {error}. No frame is used."
            _log.warning(note.strip())
            return None
        except Stopped:
            if way is None:
                raise
            begun = way
        if note:
            note += " Pathfinder's is used." if begun.kind == "pathfinder" else ""
    for one in modes:
        if one.begun is begun:
            return one
    result_exists()
    frame = begun
    if kind == "gaussian" and not watch.is_stopped:
        others = [one for one in known if one.frame.kind == "gaussian"]
        try:
            frame = gaussian_frame(density, begun, seed, [one.frame for one in others])
        except NoModeError as error:
            note += f" No Gaussian of largest ELBO, because {error}; it stays as it is."
        for one in others:
            if one.frame is frame:
                return one
    if watch.why is not None:
        note += f" {_STOPPED[watch.why]}: this is the best frame so far."
    return FoundFrame(begun, replace(frame, note=note.strip()))
