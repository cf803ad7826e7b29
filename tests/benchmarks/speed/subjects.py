"""Who is measured, on which rows, and what must be installed for it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .rows import ROWS, Row
from .timing import Subject

__all__ = ["LIMIT", "SUBJECTS", "Entry", "build_subject", "entry_for"]

_PLANAR = ("A", "B", "C")
_MEAN_FIELD = ("D1", "D20", "F")
_SEVERAL_DRAWS = ("A", "C", "D20")
LIMIT = "hand-written JAX"


@dataclass(frozen=True)
class Entry:
    """A subject.

    Attributes
    ----------
    name : str
    where : str
        ``module:class`` in this package.
    rows : tuple of str
    needs : str
        The package that it is, or is built on.
    options : mapping
        For the class.
    """

    name: str
    where: str
    rows: tuple[str, ...] = ("A", "B", "C", "D1", "D20", "E", "F")
    needs: str = "pymc"
    options: Mapping[str, Any] = field(default_factory=dict)


def _by_backend(
    name: str, where: str, *, backends: tuple[str, ...], **kwargs: Any
) -> tuple[Entry, ...]:
    return tuple(Entry(f"{name} {b}", where, options={"backend": b}, **kwargs) for b in backends)


def _numpyro(
    guide: str, rows: tuple[str, ...], *, suffix: str = "", cls: str = "NumpyroRun"
) -> tuple[Entry, ...]:
    name, where = f"NumPyro {guide}{suffix}", f"subjects_numpyro:{cls}"
    return (Entry(name, where, rows=rows, needs="numpyro", options={"guide": guide}),)


_ALL = (
    *_by_backend(
        "pmflow", "subjects_pmflow:Pmflow", backends=("numba", "jax", "c"), rows=tuple(ROWS)
    ),
    *_by_backend("PyMC loop", "subjects_pymc:PymcLoop", backends=("numba", "c")),
    *_by_backend(
        "PyMC loop and scan",
        "subjects_pymc:PymcScanningLoop",
        backends=("numba", "c"),
        rows=_SEVERAL_DRAWS,
    ),
    *_by_backend("pm.ADVI", "subjects_pymc:PymcAdvi", backends=("numba", "c"), rows=_MEAN_FIELD),
    *_by_backend(
        "pymc-extras ADVI",
        "subjects_pymc:ExtrasTrainer",
        backends=("numba", "jax", "c"),
        rows=_MEAN_FIELD,
        needs="pymc_extras",
    ),
    *_numpyro("AutoIAFNormal", (*_PLANAR, "H")),
    *_numpyro("AutoBNAFNormal", _PLANAR),
    *_numpyro("AutoNormal", _MEAN_FIELD),
    *_numpyro("AutoLowRankMultivariateNormal", ("E",)),
    *_numpyro("AutoNormal", ("F",), suffix=", batches by us", cls="NumpyroBatches"),
    Entry("flowjax planar", "subjects_flowjax:FlowjaxLoop", rows=_PLANAR, needs="flowjax"),
    Entry(
        "flowjax planar, scanned by us",
        "subjects_flowjax:FlowjaxScanned",
        rows=_PLANAR,
        needs="flowjax",
    ),
    Entry("flowjax coupling", "subjects_flowjax:FlowjaxLoop", rows=("I",), needs="flowjax"),
    Entry(
        "flowjax coupling, scanned by us",
        "subjects_flowjax:FlowjaxScanned",
        rows=("I",),
        needs="flowjax",
    ),
    Entry(LIMIT, "hand_jax:HandJax", needs="jax"),
)

SUBJECTS = {entry.name: entry for entry in _ALL}


def entry_for(name: str) -> Entry:
    """The entry of a name, in any case."""
    return {key.lower(): entry for key, entry in SUBJECTS.items()}[name.lower()]


def build_subject(name: str, row: Row, *, seconds: float) -> Subject:
    """Import a subject and make it for a row."""
    entry = entry_for(name)
    module, _, cls = entry.where.partition(":")
    options = dict(entry.options)
    if name == LIMIT:
        options["search_seconds"] = seconds / 2
    made: Subject = getattr(importlib.import_module(f".{module}", __package__), cls)(row, **options)
    return made
