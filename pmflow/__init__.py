"""Normalizing-flow variational inference for PyMC."""

from pmflow import errors, flows, plots, targets
from pmflow.family.approximation import Approximation, NormalizingFlow
from pmflow.family.group import Group
from pmflow.fit import fit
from pmflow.flows.formula import Formula
from pmflow.frames import Frame
from pmflow.inference import NFVI
from pmflow.judging.compare import compare
from pmflow.judging.diagnosis import Diagnosis, diagnose
from pmflow.judging.importance import importance_resample
from pmflow.ladder.climb import Ladder, Rung
from pmflow.load import load
from pmflow.records import FitState, Starts
from pmflow.resume import resume
from pmflow.starts.restarts import Stack
from pmflow.training.schedule import Settings
from pmflow.training.tracker import Tracker

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
