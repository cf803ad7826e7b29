"""The approximating family: base draw -> chain of layers -> latent vector of a model."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import ArrayLike, NDArray
from pymc.pytensorf import find_rng_nodes, reseed_rngs
from pymc.util import RandomState, _get_seeds_per_chain
from pymc.variational import opvi
from pymc.variational.approximations import FullRankGroup, MeanFieldGroup
from pymc.variational.opvi import VIState, node_property
from pytensor.tensor.variable import TensorVariable
from xarray import DataTree

from pmflow.checks import as_numbers, check_flags, check_seed, checked_count
from pmflow.errors import ParameterError, StorageError, UnsupportedError
from pmflow.family.flow_group import Captured, NormalizingFlowGroup
from pmflow.family.storage import pack, unpack
from pmflow.flows import Chain
from pmflow.flows.bases.bases import AbstractBase, mean_with_choices, standard_normal_logp
from pmflow.flows.formula import Formula
from pmflow.frames import Frame
from pmflow.graphs.evaluate import (
    GLOBAL_STATE,
    NotVectorizedError,
    checks_as_values,
    compile_once,
    vectorize_over_draws,
)
from pmflow.posterior import export
from pmflow.posterior.model import checked_groups
from pmflow.records import FitState, Starts
from pmflow.saving.archive import Archive, decode, encode, write_archive

__all__ = ["Approximation", "NormalizingFlow"]

_DRAWS_AT_ONCE = 10_000
"""Draws made by one call, so that memory stays bounded; the result does not depend on it."""

_STATE_DRAWS = 10_000


class Approximation(opvi.Approximation):
    """An approximate posterior made of independent groups of variables.

    Parameters
    ----------
    groups : list of Group
        Together they hold every free variable of the model; at most one of them has None for its
        variables, and takes those that are left.
    model : pymc.Model, optional
        Defaults to the model of the context.

    Raises
    ------
    ParameterError
        If a variable is in two groups or in none, or the groups are of several models.
    """

    def __init__(self, groups: Sequence[opvi.Group], model: pm.Model | None = None) -> None:
        groups, model = checked_groups(groups, model)
        with GLOBAL_STATE:  # PyMC changes PyTensor's flags as it compiles, without a lock
            super().__init__(groups, model=model)
        self.hist: NDArray[np.float64] = np.empty(0)
        self.fit_state: FitState | None = None
        self.starts: Starts | None = None
        self.captured_starts: list[Captured] = []
        self.diagnosis: Any = None
        self.ladder: Any = None
        self._compiled: dict[str, Any] = {}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the approximation to a netCDF file, for `pmflow.load`.

        Formula, base, parameters, frame, `hist`, `fit_state`, `starts`, and an outline of the
        model: names, shapes, transforms, dims and coords. Not the model, and not its data. See
        :doc:`/saving`.

        Parameters
        ----------
        path : path-like
            A file that is there is replaced at once, when the new one is complete.

        Raises
        ------
        StorageError
            If the file can't be written; the one that was there is as it was. If a group is
            neither a flow nor mean field nor full rank.
        """
        write_archive(path, pack(self))

    @classmethod
    def _from_archive(cls, archive: Archive, model: pm.Model, where: str) -> Approximation:
        stored = unpack(archive, model, where)
        kind = NormalizingFlow if archive.content.get("single") is True else Approximation
        if kind is NormalizingFlow and len(stored.groups) != 1:
            raise StorageError(f"{where!r} has not one group of variables, but should.")
        made = kind.__new__(kind)
        Approximation.__init__(made, stored.groups, model)
        made.hist, made.fit_state, made.starts = stored.hist, stored.fit_state, stored.starts
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        # a model has no plain pickle; cloudpickle is what PyMC itself sends models with
        import cloudpickle

        return _revived, (cloudpickle.dumps(self.model), encode(pack(self)))

    def __deepcopy__(self, memo: dict[int, Any]) -> Approximation:
        """Return a copy with parameters of its own, of the posterior of the same model."""
        return self._from_archive(decode(encode(pack(self))), self.model, "The copy")

    @property
    def rng(self) -> np.random.RandomState:
        """Where the seeds of training and drawing come from: that of the first group."""
        return self.groups[0].rng

    @property
    def model(self) -> pm.Model:
        """The model, also outside of its context."""
        return self.groups[0].model

    @property
    def param_names(self) -> list[str]:
        """A name for every entry of `params`: ``u_0`` is the `u` of the flow's first layer.

        ``df_base`` is a parameter of the base. With more than one group the name starts with the
        group's: ``group1_u_0``.
        """
        names = []
        for index, group in enumerate(self.groups):
            prefix = f"group{index}_" if len(self.groups) > 1 else ""
            if isinstance(group, NormalizingFlowGroup):
                names += [f"{prefix}{name}" for name in group.named_params]
            else:
                names += [f"{prefix}{p.name}" for p in group.params]
        return names

    def _mean_over_draws(self, values: TensorVariable) -> TensorVariable:
        choices = [g.log_choice for g in self.groups if isinstance(g, NormalizingFlowGroup)]
        return mean_with_choices(values, [choice for choice in choices if choice is not None])

    @property
    def _sized_symbolic_varlogp_and_datalogp(self) -> Any:
        with GLOBAL_STATE:  # as in __init__
            return super()._sized_symbolic_varlogp_and_datalogp

    def make_size_and_deterministic_replacements(self, *args: Any, **kwargs: Any) -> Any:
        """As PyMC's, one thread at a time."""
        with GLOBAL_STATE:  # as in __init__
            return super().make_size_and_deterministic_replacements(*args, **kwargs)

    @node_property
    def logq(self) -> TensorVariable:
        """Mean of log q over the draws of a step."""
        return pt.add(*map(self._mean_over_draws, self.collect("symbolic_logq")))

    @node_property
    def path_logq(self) -> TensorVariable:
        """As `logq`, with the gradient along the draws only; of flows, not of PyMC's families."""
        return pt.add(*map(self._mean_over_draws, self.collect("symbolic_path_logq")))

    @node_property
    def start_logp(self) -> TensorVariable:
        """Mean log density of the draws where the flows began, for groups that are all flows."""
        return pt.add(*(self._mean_over_draws(g.symbolic_start_logp) for g in self.groups))

    @node_property
    def varlogp(self) -> TensorVariable:
        """Mean log prior of a step's draws."""
        return self._mean_over_draws(self.sized_symbolic_varlogp)

    @node_property
    def datalogp(self) -> TensorVariable:
        """Mean log likelihood of a step's draws."""
        return self._mean_over_draws(self.sized_symbolic_datalogp)

    def symbolic_sample_over_posterior(
        self, node: Any, more_replacements: dict[Any, Any] | None = None
    ) -> Any:
        """Graphs of one point of the posterior, evaluated at every draw without a loop.

        Falls back to PyMC's scan over draws, with a warning that names the Op, where the graph
        can't be batched.
        """
        single = not isinstance(node, list | tuple)
        flat = self.to_flat_input(node, more_replacements=more_replacements)
        nodes = [flat] if single else list(flat)
        nodes = checks_as_values(nodes, check_bounds=self.model.check_bounds)
        draws = dict(zip(self.inputs, self.symbolic_randoms, strict=True))
        try:
            batched = vectorize_over_draws(nodes, draws)
        except NotVectorizedError as error:
            warnings.warn(
                f"Draws are looped over, not vectorized, because the Op {error} can't be batched. "
                "The result is the same, but more than one draw a step will be slow.",
                stacklevel=2,
            )
            return super().symbolic_sample_over_posterior(nodes[0] if single else nodes)
        return batched[0] if single else batched

    def sample(
        self,
        draws: int = 500,
        *,
        random_seed: RandomState = None,
        return_inferencedata: bool = True,
        include_transformed: bool = False,
    ) -> DataTree | pm.backends.base.MultiTrace:
        """Draw from the approximate posterior.

        Parameters
        ----------
        draws : int
        random_seed : int, Generator or RandomState, optional
            The same seed gives the same draws. By default the seed continues from that of the
            approximation.
        return_inferencedata : bool
            False returns PyMC's MultiTrace instead.
        include_transformed : bool
            Add the variables in unconstrained space as group ``unconstrained_posterior``.

        Returns
        -------
        DataTree
            ``posterior``: free variables and deterministics in constrained space, with the model's
            dims and coords, one chain. ``sample_stats``: ``log_q`` and ``log_p`` of each draw, both
            over the unconstrained space (``log_p`` not normalised; an estimate for minibatches).
            ``observed_data`` and ``constant_data`` as after `pymc.sample`.

        Raises
        ------
        ParameterError
            If `draws` is not a positive integer.
        """
        draws = checked_count("draws", draws, 1)
        check_flags(
            return_inferencedata=return_inferencedata, include_transformed=include_transformed
        )
        check_seed(random_seed)
        samples = self._draw(draws, random_seed)
        if not return_inferencedata:
            return export.to_multitrace(self.model, samples)
        families = " & ".join(str(g) for g in self.groups)
        return export.to_datatree(
            self.model, samples, family=families, include_transformed=include_transformed
        )

    def _draw(self, draws: int, random_seed: RandomState) -> export.Samples:
        """Latents, constrained variables, log q and log p of fresh draws."""
        if "draw" not in self._compiled:
            size = pt.lscalar("size")
            variables = self.model.unobserved_RVs
            latents = [self.rslice(name) for g in self.groups for name in g.ordering]
            logq = self.symbolic_logq if self.has_logq else pt.zeros_like(self.sized_symbolic_logp)
            constrained = self.symbolic_sample_over_posterior(
                self.model.replace_rvs_by_values(variables)
            )
            outputs = self.set_size_and_deterministic(
                [logq, self.sized_symbolic_logp, *latents, *constrained], size, 0
            )
            names = [name for g in self.groups for name in g.ordering]
            self._compiled["draw"] = (
                compile_once([size], outputs, random_seed=False),
                find_rng_nodes(outputs),
                names,
                [v.name for v in variables],
            )
        fn, rngs, names, constrained_names = self._compiled["draw"]
        reseed_rngs(rngs, self._seed(random_seed))
        sizes = [min(_DRAWS_AT_ONCE, draws - i) for i in range(0, draws, _DRAWS_AT_ONCE)]
        parts = zip(*(fn(size) for size in sizes), strict=True)
        logq, logp, *rest = (np.concatenate(part) for part in parts)
        return export.Samples(
            log_q=logq if self.has_logq else None,
            log_p=logp,
            unconstrained=dict(zip(names, rest, strict=False)),
            constrained=dict(zip(constrained_names, rest[len(names) :], strict=True)),
        )

    def _seed(self, random_seed: RandomState) -> int:
        if random_seed is None:
            return int(self.rng.randint(2**30, dtype=np.int64))
        (seed,) = _get_seeds_per_chain(random_seed, 1)
        return int(seed)

    def log_prob(self, z: ArrayLike) -> NDArray[np.float64]:
        """Log density of the approximation at any points.

        Parameters
        ----------
        z : array_like, shape (n, dim) or (dim,)
            Points in unconstrained space, the variables in the order of the groups.

        Returns
        -------
        ndarray, shape (n,) or ()

        Raises
        ------
        ParameterError
            If the last axis of `z` does not have the length of the latent vector.
        UnsupportedError
            If a group has no density, such as PyMC's Empirical.
        """
        points = as_numbers("z", z, f"(n, {self.ddim})")
        points = points.astype(self.groups[0].symbolic_initial.dtype)
        if points.ndim not in (1, 2) or points.shape[-1] != self.ddim:
            raise ParameterError(
                f"z must have shape (n, {self.ddim}), one unconstrained point a row, "
                f"but has shape {points.shape}."
            )
        if "log_prob" not in self._compiled:
            at = pt.matrix("z", dtype=points.dtype)
            logq, begin = pt.zeros_like(at[:, 0]), 0
            for group in self.groups:
                logq = logq + _logq_at(group, at[:, begin : begin + group.ddim])
                begin += group.ddim
            self._compiled["log_prob"] = compile_once([at], [logq])
        (logq,) = self._compiled["log_prob"](np.atleast_2d(points))
        return np.asarray(logq if points.ndim == 2 else logq[0])

    @property
    def state(self) -> VIState:
        """Mean and standard deviation of each free variable in constrained space.

        Both are moments of 10,000 draws, not transforms of the unconstrained moments.
        """
        posterior = self.sample(_STATE_DRAWS)["posterior"].to_dataset()
        free = posterior[[rv.name for rv in self.model.free_RVs]]
        return VIState(mean=free.mean(("chain", "draw")), std=free.std(("chain", "draw")))


class NormalizingFlow(Approximation):
    """A flow over all free variables of a model.

    Parameters
    ----------
    flow : str or Formula
        Layers in order of application to the base draw N(0, I), such as ``'scale-hh*4-loc'``.
    model : pymc.Model, optional
        Defaults to the model of the context.
    random_seed : int, Generator or RandomState, optional
        Seeds the start, the training and the draws; no global state is read or changed.
    start : dict of str to array_like, optional
        Where the flow is centred at the start, by the name of a variable in its own (constrained)
        space; the model's initial point for those left out.
    jitter : float, optional
        Spread of the parameters around the identity at the start. Default 0.1.
    base : str
        The distribution that the first layer sees: ``normal`` (the default), ``student_t`` or
        ``mixture``, with options in brackets, such as ``student_t[df=3,trained=false]`` or
        ``mixture[k=8]``. See :doc:`/formula`.
    frame : {"gaussian", "laplace", "pathfinder"} or Frame, optional
        An affine map behind the last layer, found before any training, so that the flow works in
        units of the posterior: the Gaussian of largest ELBO, mode and curvature, or the best
        Gaussian on the way to a mode. Where there is no finite mode the next one is taken, and
        ``frame.note`` says why. See :doc:`/frames`.

    Attributes
    ----------
    flow : Chain
        The layers.
    formula : Formula
    layer_params : list of dict of str to TensorVariable
        Parameters of each layer, unconstrained, in the order of the flow.

    Raises
    ------
    FormulaError
        If the formula is wrong.
    NotContinuousError
        If a free variable is discrete.

    References
    ----------
    Rezende & Mohamed (2015), Variational inference with normalizing flows,
    https://arxiv.org/abs/1505.05770

    Examples
    --------
    >>> import pymc as pm, pmflow as pmf
    >>> with pm.Model():
    ...     x = pm.Normal("x", shape=2)
    ...     approx = pmf.NormalizingFlow("planar*2", random_seed=1)
    >>> approx.params
    [b, u, w, b, u, w]
    >>> approx.sample(100)["posterior"]["x"].shape
    (1, 100, 2)
    """

    def __init__(
        self,
        flow: str | Formula = "scale-loc",
        *,
        model: pm.Model | None = None,
        random_seed: RandomState = None,
        start: Mapping[str, Any] | None = None,
        jitter: float | None = None,
        base: str | AbstractBase = "normal",
        frame: str | Frame | None = None,
    ) -> None:
        group = NormalizingFlowGroup(
            None,
            Formula(flow),
            None,
            random_seed,
            model,
            start=start,
            jitter=jitter,
            base=base,
            frame=frame,
        )
        super().__init__([group], model=model)

    @property
    def flow(self) -> Chain:
        """The layers, as one map of base draws to points relative to the start."""
        return self._group.flow

    @property
    def formula(self) -> Formula:
        """The formula of the flow."""
        return self._group.formula

    @property
    def layer_params(self) -> list[dict[str, TensorVariable]]:
        """Parameters of each layer, unconstrained, in the order of the flow."""
        return self._group.layer_params

    @property
    def _group(self) -> NormalizingFlowGroup:
        (group,) = self.groups
        return group

    def __getattr__(self, name: str) -> Any:
        # PyMC's single-group approximations answer for their group: mean, std, cov, ordering ...
        if name == "groups" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.groups[0], name)

    def sample_layers(
        self, draws: int = 500, *, random_seed: RandomState = None
    ) -> list[NDArray[np.float64]]:
        """Draw from the base and follow the draws through every layer.

        Parameters
        ----------
        draws : int
        random_seed : int, Generator or RandomState, optional

        Returns
        -------
        list of ndarray, each of shape (draws, dim)
            The base draw, then the output of each layer, unconstrained; the last one is a draw
            from the approximation.
        """
        draws = checked_count("draws", draws, 1)
        check_seed(random_seed)
        if "layers" not in self._compiled:
            noise = pt.matrix("noise", dtype=self._group.symbolic_initial.dtype)
            self._compiled["layers"] = compile_once([noise], self._group.steps_at(noise))
        rng = np.random.default_rng(self._seed(random_seed))
        noise = rng.standard_normal((draws, self._group.noise_length))
        return list(self._compiled["layers"](noise.astype(self._group.symbolic_initial.dtype)))


def _revived(model: bytes, encoded: bytes) -> Approximation:
    """What `Approximation.__reduce__` took apart."""
    import cloudpickle

    return Approximation._from_archive(decode(encoded), cloudpickle.loads(model), "The pickle")


def _logq_at(group: opvi.Group, z: TensorVariable) -> TensorVariable:
    """Log density of one group at points of shape (n, dim): shape (n,)."""
    if isinstance(group, NormalizingFlowGroup):
        return group.logq_at(z)
    if isinstance(group, MeanFieldGroup):
        return standard_normal_logp((z - group.mean) / group.std) - pt.log(group.std).sum()
    if isinstance(group, FullRankGroup):
        z0 = pt.linalg.solve_triangular(group.L, (z - group.mean).T, lower=True).T
        return standard_normal_logp(z0) - pt.log(pt.diag(group.L)).sum()
    raise UnsupportedError(f"{type(group).__name__} has no density, so log_prob is not defined.")
