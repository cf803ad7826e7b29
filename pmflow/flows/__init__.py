"""Flow layers: plain PyTensor, without PyMC.

One class a layer. `register` adds a class of your own to the words that a formula may use.
"""

from pmflow.flows.base import AbstractLayer
from pmflow.flows.catalogue import register
from pmflow.flows.chain import Chain
from pmflow.flows.householder import Householder
from pmflow.flows.loc import Loc
from pmflow.flows.planar import Planar
from pmflow.flows.radial import Radial
from pmflow.flows.scale import Scale

__all__ = [
    "AbstractLayer",
    "Chain",
    "Householder",
    "Loc",
    "Planar",
    "Radial",
    "Scale",
    "register",
]
