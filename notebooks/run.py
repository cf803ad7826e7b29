"""Run every notebook of this folder in full and keep its output: ``python notebooks/run.py``."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def main() -> None:
    """Execute the notebooks in place; an error leaves the file as it was."""
    for path in sorted(HERE.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": HERE}}).execute()
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)  # time stamps, new at every run
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
