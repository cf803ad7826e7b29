"""Base distributions: what the first layer sees."""

from pmflow.flows.bases.base import AbstractBase, standard_normal_logp
from pmflow.flows.bases.choices import mean_with_choices
from pmflow.flows.bases.mixture import Mixture
from pmflow.flows.bases.normal import Normal
from pmflow.flows.bases.student_t import StudentT

__all__ = [
    "BASES",
    "AbstractBase",
    "Mixture",
    "Normal",
    "StudentT",
    "mean_with_choices",
    "standard_normal_logp",
]

BASES: dict[str, type[AbstractBase]] = {cls.word: cls for cls in (Normal, StudentT, Mixture)}
"""The base distributions by the word that names them."""
