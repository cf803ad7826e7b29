"""Normalizing-flow variational inference for PyMC."""

from pmflow import errors, flows, plots, targets
from pmflow.approximation import Approximation, Group, NormalizingFlow
from pmflow.callbacks import Tracker
from pmflow.compare import compare
from pmflow.formula import Formula
from pmflow.frames import Frame
from pmflow.inference import NFVI, fit

__all__ = [
    "NFVI",
    "Approximation",
    "Formula",
    "Frame",
    "Group",
    "NormalizingFlow",
    "Tracker",
    "compare",
    "errors",
    "fit",
    "flows",
    "plots",
    "targets",
]
