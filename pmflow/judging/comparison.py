"""A table of a comparison that prints whole."""

from __future__ import annotations

from itertools import zip_longest
from typing import override

import pandas as pd

__all__ = ["Comparison"]

_DIGITS = 3


class Comparison(pd.DataFrame):
    """A data frame that is printed with all of its columns, their names in several lines.

    What pandas makes of it, by a selection or by ``round``, is one again.
    """

    @property
    @override
    def _constructor(self) -> type[Comparison]:
        return Comparison

    @override
    def __repr__(self) -> str:
        shown = pd.DataFrame(self)
        if self.empty:
            return repr(shown)
        words = [str(name).split("_") for name in self.columns]
        lines = zip_longest(*(reversed(each) for each in words), fillvalue="")
        head = pd.MultiIndex.from_arrays(list(lines)[::-1])
        with pd.option_context("display.multi_sparse", False):  # noqa: FBT003 - pandas'
            return shown.set_axis(head, axis=1).to_string(
                float_format=f"{{:z.{_DIGITS}f}}".format,
                max_rows=pd.get_option("display.max_rows"),
                min_rows=pd.get_option("display.min_rows"),
            )

    __str__ = __repr__
