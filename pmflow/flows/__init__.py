"""Flow layers: plain PyTensor, without PyMC.

Each layer is one class. `register` adds a class of your own to the words of formulas.
"""

from pmflow.flows.base import AbstractLayer
from pmflow.flows.bases import Mixture, Normal, StudentT
from pmflow.flows.catalogue import register
from pmflow.flows.chain import Chain
from pmflow.flows.latent import Latent, LatentGraph
from pmflow.flows.layers.bend import Bend
from pmflow.flows.layers.bnaf import BNAF
from pmflow.flows.layers.coupling import Coupling
from pmflow.flows.layers.householder import Householder
from pmflow.flows.layers.iaf import IAF
from pmflow.flows.layers.loc import Loc
from pmflow.flows.layers.lowrank import LowRank
from pmflow.flows.layers.lu import LU
from pmflow.flows.layers.maf import MAF
from pmflow.flows.layers.naf import NAF
from pmflow.flows.layers.perm import Permutation
from pmflow.flows.layers.planar import Planar
from pmflow.flows.layers.poly import Polynomial
from pmflow.flows.layers.radial import Radial
from pmflow.flows.layers.reverse import Reverse
from pmflow.flows.layers.scale import Scale
from pmflow.flows.layers.sinh import SinhArcsinh
from pmflow.flows.layers.sparse import Sparse
from pmflow.flows.layers.spline import Spline
from pmflow.flows.layers.sylvester import Sylvester
from pmflow.flows.layers.tril import Tril

__all__ = [
    "BNAF",
    "IAF",
    "LU",
    "MAF",
    "NAF",
    "AbstractLayer",
    "Bend",
    "Chain",
    "Coupling",
    "Householder",
    "Latent",
    "LatentGraph",
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
    "Sparse",
    "Spline",
    "StudentT",
    "Sylvester",
    "Tril",
    "register",
]
