"""Normalizing-flow variational inference for PyMC."""

from pmflow import errors, flows
from pmflow.approximation import Approximation, Group, NormalizingFlow
from pmflow.formula import Formula

__all__ = ["Approximation", "Formula", "Group", "NormalizingFlow", "errors", "flows"]
