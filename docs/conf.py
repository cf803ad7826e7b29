"""Configuration of Sphinx."""

from __future__ import annotations

import json
import os
import shutil
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent

project = "pmflow"
author = "The pmflow developers"
project_copyright = author
version = release = installed_version("pmflow")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_nb",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]

# Text
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "amsmath"]
myst_heading_anchors = 3
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# Notebooks keep the output that they were saved with: `make notebooks` runs them.
nb_execution_mode = "off"

# Reference
autodoc_typehints = "none"  # numpydoc states types, and shapes with them
autodoc_member_order = "bysource"
numpydoc_show_class_members = False  # autodoc lists them

# Links to other projects need the network, so they are made only when it is asked for:
# PMFLOW_DOCS_INTERSPHINX=1 make docs
intersphinx_mapping = {
    "python": ("https://docs.python.org/3", None),
    "numpy": ("https://numpy.org/doc/stable", None),
    "xarray": ("https://docs.xarray.dev/en/stable", None),
    "pandas": ("https://pandas.pydata.org/docs", None),
    "matplotlib": ("https://matplotlib.org/stable", None),
    "pymc": ("https://www.pymc.io/projects/docs/en/stable", None),
    "pytensor": ("https://pytensor.readthedocs.io/en/latest", None),
}
if os.environ.get("PMFLOW_DOCS_INTERSPHINX"):
    extensions.append("sphinx.ext.intersphinx")

nitpick_ignore_regex = [
    # Other projects: resolved by intersphinx, which is off without the network.
    (r"py:.*", r"(python|collections|numpy|np|xarray|xr|pandas|pd|matplotlib|rich)\..*"),
    (r"py:.*", r"(pymc|pm|pytensor|pt|opvi|abc)\..*"),
    (r"py:.*", r"(TensorVariable|SharedVariable|Variable|DataTree|Dataset|DataFrame|VIState)"),
    # The standard library, as above.
    (r"py:(class|exc|obj)", r"(ABC|Exception|KeyError|ValueError|TypeError|ImportError)"),
    (r"py:(class|exc|obj)", r"(NotImplementedError|FloatingPointError|StopIteration)"),
    (r"py:(class|obj)", r"(object|type|str|int|float|bool|dict|list|tuple|callable|sequence)"),
    # Classes that users meet as objects, never by name: described where they are returned.
    (r"py:.*", r"pmflow\.flow_group\..*"),
    (r"py:.*", r"pmflow\.family\.(kept|no_graph|by_numpy|mean_densities)\..*"),
]

html_theme = "sphinx_book_theme"
html_title = "pmflow"
html_theme_options = {
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "home_page_in_toc": True,
}


def _copy_notebooks() -> None:
    """Copy the notebooks below docs/, where Sphinx finds them; what is gone there goes here."""
    target = _HERE / "notebooks"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for path in sorted((_HERE.parent / "notebooks").glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        # a notebook that was never run does not say how its code is to be coloured
        notebook["metadata"].setdefault("language_info", {"name": "python"})
        (target / path.name).write_text(json.dumps(notebook), encoding="utf-8")


def _escape_batch(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep the star of a shape such as (*batch, dim) from opening an emphasis."""
    # every other piece is a literal, in which a backslash would show
    pieces = [line.split("``") for line in lines]
    for line in pieces:
        line[::2] = [piece.replace("(*batch", r"(\*batch") for piece in line[::2]]
    lines[:] = ["``".join(line) for line in pieces]


def setup(app: Any) -> None:
    """Make ready what the pages need."""
    _copy_notebooks()
    # before numpydoc, which has priority 500
    app.connect("autodoc-process-docstring", _escape_batch, priority=400)
