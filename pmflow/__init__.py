"""Normalizing-flow variational inference for PyMC."""

from pmflow import errors, flows, plots, targets
from pmflow.embedded.outline import Structure
from pmflow.family.approximation import Approximation
from pmflow.family.embedded_laplace import EmbeddedLaplace
from pmflow.family.group import Group
from pmflow.family.load import load
from pmflow.family.normalizing_flow import NormalizingFlow
from pmflow.family.resampled import Resampled
from pmflow.family.sparse_gaussian import SparseGaussian
from pmflow.family.stack import Stack
from pmflow.family.symmetrized import Symmetrized
from pmflow.fit import fit
from pmflow.flows.formula import Formula
from pmflow.frames import Frame
from pmflow.inference import NFVI
from pmflow.judging.calibration import Calibration
from pmflow.judging.compare import compare
from pmflow.judging.diagnosis import Diagnosis, diagnose
from pmflow.judging.resampling import importance_resample
from pmflow.ladder.refit import refit
from pmflow.ladder.refits import Refits
from pmflow.ladder.sample import sample
from pmflow.ladder.sbc import sbc
from pmflow.ladder.structure_of import structure
from pmflow.ladder.tried import Ladder, Tried
from pmflow.ladder.update import update
from pmflow.objectives.forward_kl import ForwardKL
from pmflow.posterior.rows.sources.arrow import ArrowRows
from pmflow.posterior.rows.sources.rows import Rows
from pmflow.posterior.rows.stored import with_rows
from pmflow.records import Facts, FitState, Starts
from pmflow.resume import resume
from pmflow.training.schedule_state import ScheduleSettings
from pmflow.training.tracker import Tracker

__all__ = [
    "NFVI",
    "Approximation",
    "ArrowRows",
    "Calibration",
    "Diagnosis",
    "EmbeddedLaplace",
    "Facts",
    "FitState",
    "Formula",
    "ForwardKL",
    "Frame",
    "Group",
    "Ladder",
    "NormalizingFlow",
    "Refits",
    "Resampled",
    "Rows",
    "ScheduleSettings",
    "SparseGaussian",
    "Stack",
    "Starts",
    "Structure",
    "Symmetrized",
    "Tracker",
    "Tried",
    "compare",
    "diagnose",
    "errors",
    "fit",
    "flows",
    "importance_resample",
    "load",
    "plots",
    "refit",
    "resume",
    "sample",
    "sbc",
    "structure",
    "targets",
    "update",
    "with_rows",
]
