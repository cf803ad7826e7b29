"""Affine frames: where the posterior is and how wide, before any flow is trained."""

from pmflow.frames.build import FRAMES, build_frame, checked_frame
from pmflow.frames.frame import Frame
from pmflow.frames.placement import Placement

__all__ = ["FRAMES", "Frame", "Placement", "build_frame", "checked_frame"]
