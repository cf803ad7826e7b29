"""Affine frames: where the posterior is and how wide, before any flow is trained."""

from pmflow.frames.build import FRAMES, FoundFrame, build_frame, checked_frame
from pmflow.frames.frame import Frame
from pmflow.frames.laplace import MOST_DENSE
from pmflow.frames.scaling import AbstractScaling

__all__ = [
    "FRAMES",
    "MOST_DENSE",
    "AbstractScaling",
    "FoundFrame",
    "Frame",
    "build_frame",
    "checked_frame",
]
