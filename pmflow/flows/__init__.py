"""Flow layers: plain PyTensor, without PyMC.

One class a layer. `register` adds a class of your own to the words that a formula may use.
"""

from pmflow.flows.autoregressive import IAF, MAF, NAF, Polynomial
from pmflow.flows.base import AbstractLayer
from pmflow.flows.bases import Mixture, Normal, StudentT
from pmflow.flows.bnaf import BNAF
from pmflow.flows.catalogue import register
from pmflow.flows.chain import Chain
from pmflow.flows.coupling import Coupling, Spline
from pmflow.flows.householder import Householder
from pmflow.flows.loc import Loc
from pmflow.flows.low_rank import LowRank
from pmflow.flows.permutation import Permutation, Reverse
from pmflow.flows.planar import Planar
from pmflow.flows.radial import Radial
from pmflow.flows.scale import Scale
from pmflow.flows.sinh_arcsinh import SinhArcsinh
from pmflow.flows.sylvester import Sylvester
from pmflow.flows.triangular import LU, Tril

__all__ = [
    "BNAF",
    "IAF",
    "LU",
    "MAF",
    "NAF",
    "AbstractLayer",
    "Chain",
    "Coupling",
    "Householder",
    "Loc",
    "LowRank",
    "Mixture",
    "Normal",
    "Permutation",
    "Planar",
    "Polynomial",
    "Radial",
    "Reverse",
    "Scale",
    "SinhArcsinh",
    "Spline",
    "StudentT",
    "Sylvester",
    "Tril",
    "register",
]
