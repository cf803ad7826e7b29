"""Normalizing-flow variational inference for PyMC."""

from pmflow import errors, flows, plots, targets
from pmflow.approximation import Approximation, NormalizingFlow
from pmflow.auto import Ladder, Rung
from pmflow.callbacks import Tracker
from pmflow.compare import compare
from pmflow.diagnostics import Diagnosis, diagnose
from pmflow.fit_state import FitState, Starts
from pmflow.fitting import fit
from pmflow.formula import Formula
from pmflow.frames import Frame
from pmflow.group import Group
from pmflow.importance import importance_resample
from pmflow.inference import NFVI
from pmflow.loading import load
from pmflow.restarts import Stack
from pmflow.resume import resume
from pmflow.training.schedule import Settings

__all__ = [
    "NFVI",
    "Approximation",
    "Diagnosis",
    "FitState",
    "Formula",
    "Frame",
    "Group",
    "Ladder",
    "NormalizingFlow",
    "Rung",
    "Settings",
    "Stack",
    "Starts",
    "Tracker",
    "compare",
    "diagnose",
    "errors",
    "fit",
    "flows",
    "importance_resample",
    "load",
    "plots",
    "resume",
    "targets",
]
