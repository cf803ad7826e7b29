"""Plain records, which every room may read: states, facts, estimates."""

from pmflow.records.estimates import Elbo, systematic_choice
from pmflow.records.facts import Facts
from pmflow.records.states import Ended, FitState, Images, Outcome, Report, Starts, State
from pmflow.records.triangle import Triangle, full_triangle

__all__ = [
    "Elbo",
    "Ended",
    "Facts",
    "FitState",
    "Images",
    "Outcome",
    "Report",
    "Starts",
    "State",
    "Triangle",
    "full_triangle",
    "systematic_choice",
]
