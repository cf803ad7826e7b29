"""How large a formula may be."""

__all__ = ["MAX_DEPTH", "MAX_LAYERS", "MAX_NUMBER_LENGTH", "MAX_TEXT_LENGTH"]

MAX_TEXT_LENGTH = 10_000
"""Longest formula in characters: a thousand written-out layers fit, a file read by mistake not."""

MAX_LAYERS = 1_000
"""Most layers in a flow. Each becomes a part of the compiled graph, which takes minutes to compile
well before this; a slip such as ``planar*10000`` should not have to be killed by hand."""

MAX_DEPTH = 50
"""Deepest nesting of parentheses. The parser calls itself for each; Python stops at about 1,000."""

MAX_NUMBER_LENGTH = 100
"""Longest number in characters: 100 digits still fit a float, and ``int`` is not asked to read
thousands of them, at which it raises an error of its own."""
