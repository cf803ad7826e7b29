"""Write the lowest versions of pyproject.toml as constraints: `lower_bounds.py EXTRAS`."""

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = sys.argv[1].split(",")
for requirement in [
    *project["dependencies"],
    *(r for extra in extras for r in project["optional-dependencies"][extra]),
]:
    found = re.fullmatch(r"([\w.-]+)(?:\[.*\])?>=([\w.]+)", requirement)
    if found is None:
        sys.exit(f"expected 'name>=version' in pyproject.toml, but got {requirement!r}")
    sys.stdout.write("==".join(found.groups()) + "\n")
