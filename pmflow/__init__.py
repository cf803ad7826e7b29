"""Normalizing-flow variational inference for PyMC."""

from pmflow import errors, flows
from pmflow.approximation import Approximation, Group, NormalizingFlow
from pmflow.callbacks import Tracker
from pmflow.formula import Formula
from pmflow.inference import NFVI, fit

__all__ = [
    "NFVI",
    "Approximation",
    "Formula",
    "Group",
    "NormalizingFlow",
    "Tracker",
    "errors",
    "fit",
    "flows",
]
