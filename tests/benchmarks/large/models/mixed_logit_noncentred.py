"""The same, not centred."""

import pymc as pm

from .mixed_logit import build_model as build


def build_model() -> tuple[pm.Model, None]:
    return build(centred=False)
