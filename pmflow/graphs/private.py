"""What PyMC and PyTensor mark as private, each with the reason why pmflow needs it.

Nothing else in pmflow imports such a name, so that a version that moves one breaks this file alone.
"""

from __future__ import annotations

from typing import Any

from pymc.distributions.transforms import _default_transform
from pymc.util import RandomState, _get_seeds_per_chain
from pytensor.graph.basic import Apply

__all__ = ["core_node", "default_transform", "seed_from"]


def seed_from(random_seed: RandomState) -> int:
    """One number from whatever `pymc.sample` takes as ``random_seed``.

    `pymc.util._get_seeds_per_chain`: PyMC has no public function that reads its seeds. A reading of
    our own would give other numbers for the same seed, or refuse what PyMC takes.
    """
    (seed,) = _get_seeds_per_chain(random_seed, 1)
    return int(seed)


def core_node(node: Apply) -> Apply:
    """What a batched Op does to one member of its batch, as a node.

    `Blockwise._create_dummy_core_node`: the Op alone does not know the types of its inputs without
    their batch, and PyTensor's own backends ask for them by this method.
    """
    found: Any = node.op._create_dummy_core_node(node.inputs)
    return found


def default_transform(variable: Any) -> Any:
    """The transform of a random variable's distribution, where the user has chosen no other.

    `pymc.distributions.transforms._default_transform`: a model knows the one that it has alone.
    """
    return _default_transform(variable.owner.op, variable)
