"""Affine frames: where the posterior is and how wide, before any flow is trained."""

from pmflow.frames.build import FRAMES, FoundFrame, build_frame, checked_frame
from pmflow.frames.frame import Frame

__all__ = ["FRAMES", "FoundFrame", "Frame", "build_frame", "checked_frame"]
