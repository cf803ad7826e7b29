"""What is wrong where a formula can't go on: reasons, places and remedies.

Each function looks at what stands around the parser's place and returns the error to raise.
"""

from __future__ import annotations

from pmflow.errors import FormulaError
from pmflow.grammar.characters import BRACKETS, INTEGER, JOIN, REPEAT, Token, is_word, quote
from pmflow.grammar.cursor import Cursor
from pmflow.grammar.limits import MAX_LAYERS
from pmflow.grammar.tree import Node, Option

__all__ = [
    "after_option",
    "after_term",
    "never_closed",
    "no_count",
    "no_layer",
    "no_option",
    "no_value",
    "second_count",
]


def no_layer(at: Cursor, token: Token) -> FormulaError:
    """Explain `token`, which stands where a layer should begin."""
    before = at.before
    drop = "Name a layer, or drop the '-'."
    if token.kind == "number":
        return _count_first(at, token)
    if token.kind == "end" and before.text == "(":
        return never_closed(at, before)
    if before.text == "-" and (token.kind == "end" or token.text == ")"):
        return at.error("A layer is missing after this '-'.", before.span, drop)
    if token.text == ")" and before.kind != "start":
        span, hint = (before.span[0], token.span[1]), "Put layers between them, or drop them."
        return at.error("There is nothing between these parentheses.", span, hint)
    if token.text == "-":
        where = "between '-' and" if before.text == "-" else "before"
        return at.error(f"A layer is missing {where} this '-'.", token.span, drop)
    if token.text == "*":
        return at.error("This '*' has no layer to repeat.", token.span, REPEAT)
    if token.text == "[":
        return at.error("These options belong to no layer.", token.span, BRACKETS)
    return _misplaced(at, token)


def _count_first(at: Cursor, token: Token) -> FormulaError:
    """Explain a number where a layer should begin: ``2*planar``, ``2planar``."""
    hint = REPEAT
    if digits := INTEGER.match(token.text):
        after = at.after(1).text + at.after(2).text
        rest = token.text[digits.end() :] or after.removeprefix("*")
        if rest == "(" or is_word(rest.lower()):
            rest = rest.replace("(", "(...)")
            hint = f"Write {quote(f'{rest}*{digits.group()}')}."
    reason = f"A layer's word should stand here, got {quote(token.text)}: counts come after it."
    return at.error(reason, token.span, hint)


def no_count(at: Cursor, atom: Node) -> FormulaError:
    """Explain what stands behind a ``*`` and is no whole number."""
    star, token = at.before, at.next
    after = at.after()
    hint = f"Write for example {quote(at.source(atom.span) + '*4')}."
    if token.text == "*":
        if INTEGER.fullmatch(after.text):
            hint = f"Write {quote(f'{at.source(atom.span)}*{after.text}')}."
        return at.error("A layer is repeated by one '*', not by '**'.", token.span, hint)
    if token.text == "-" and after.kind == "number":
        return at.error(
            f"The count after '*' must be at least 1, got {quote('-' + after.text)}.",
            (token.span[0], after.span[1]),
            hint,
        )
    if token.kind in ("word", "number") or token.text == "(":
        return at.error(
            f"The count after '*' must be a whole number, got {quote(token.text)}.",
            token.span,
            f"{hint} {JOIN}" if token.kind == "word" else hint,
        )
    return at.error("The count after this '*' is missing.", star.span, hint)


def second_count(at: Cursor, atom: Node, count: int) -> FormulaError:
    """Explain that a layer is repeated once; writes the product where it is small."""
    star = at.take()
    token = at.next
    source = at.source(atom.span)
    hint = f"Write one count, for example {quote(f'{source}*{count}')}."
    span = star.span
    if token.kind == "number" and INTEGER.fullmatch(token.text):
        span = (star.span[0], token.span[1])
        if len(token.text) < 5 and 0 < count * int(token.text) <= MAX_LAYERS:
            hint = f"Write one count: {quote(f'{source}*{count * int(token.text)}')}."
    return at.error("A layer takes one count, and here is a second one.", span, hint)


def after_term(at: Cursor, opening: Token | None) -> FormulaError:
    """Explain what can't follow a complete term; `opening` is the innermost ``(``."""
    token = at.next
    before = at.before
    if token.kind == "end" and opening:
        return never_closed(at, opening)
    if token.text in (")", "]"):
        return _closes_nothing(at, token, opening)
    if token.text == "[":
        if before.text == "]":
            reason, hint = "A layer takes one pair of brackets.", "Join the options by ','."
        elif before.text == ")":
            reason, hint = "Options belong to one layer, not to a group.", BRACKETS
        else:
            reason = "Options stand before the count."
            hint = "Write them directly after the word, for example 'word[name=value]*2'."
        return at.error(reason, token.span, hint)
    if token.kind == "number":
        hint = JOIN if token.text.startswith(".") else REPEAT
        if before.kind == "word" and INTEGER.fullmatch(token.text):
            hint = f"Write {quote(f'{before.text}*{token.text}')} to repeat the layer."
        reason = f"{quote(before.text)} and {quote(token.text)} stand side by side."
        return at.error(reason, token.span, hint)
    if token.kind == "word" or token.text == "(":
        after = at.after()
        hint = "Layers are joined by '-'"
        if token.kind == before.kind == "word":
            hint += f": write {quote(f'{before.text}-{token.text}')}."
        elif before.kind == "word" and INTEGER.fullmatch(after.text):
            hint += f"; to repeat the layer, write {quote(f'{before.text}*{after.text}')}."
        elif before.kind == "word":
            hint += f"; options stand in brackets, {quote(before.text + '[name=value]')}."
        else:
            hint += ", for example '(planar-radial)*2-loc'."
        reason = f"A '-' is missing between {quote(before.text)} and {quote(token.text)}."
        return at.error(reason, token.span, hint)
    return _misplaced(at, token)


def no_option(at: Cursor, word: Token, opening: Token) -> FormulaError:
    """Explain what stands in brackets where the name of an option should."""
    token = at.next
    if token.kind == "end":
        return never_closed(at, opening)
    if token.kind == "number":
        hint = f"Write {quote(word.text + '[name=value]')}"
        if INTEGER.fullmatch(token.text):
            hint += f"; to repeat the layer, write {quote(f'{word.text}*{token.text}')}"
        return at.error(
            f"An option is written name=value, got {quote(token.text)}.", token.span, hint + "."
        )
    if token.text in (",", "]"):
        before = at.before
        culprit = before if before.text == "," else token
        reason = f"An option is missing {'after' if culprit is before else 'before'} this ','."
        return at.error(reason, culprit.span, "Drop the ',' or write name=value.")
    reason = f"The name of an option should stand here, got {quote(token.text)}."
    return at.error(reason, token.span, BRACKETS)


def no_value(at: Cursor, name: Token, first: Token) -> FormulaError:
    """Explain what stands behind ``name=`` and is no value; `first` may be a minus."""
    token = at.next
    hint = "A value is a number, true, false, or a word."
    if first.text in (",", "]"):
        span = (name.span[0], at.before.span[1])
        return at.error(f"Option {quote(name.text)} has no value.", span, hint)
    stop = first.span[1] if token.text in (",", "]") else token.span[1]
    span = (first.span[0], stop)
    wrong = quote(at.source(span))
    reason = f"The value of option {quote(name.text)} can't begin with {wrong}."
    return at.error(reason, span, hint)


def after_option(at: Cursor, option: Option, token: Token, opening: Token) -> FormulaError:
    """Explain what stands behind an option and neither goes on nor ends the brackets."""
    if token.kind == "end":
        return never_closed(at, opening)
    source = at.source((option.name_span[0], option.value_span[1]))
    reason = f"After {quote(source)} a ',' or a ']' should stand, got {quote(token.text)}."
    return at.error(reason, token.span, "Options are separated by ',' and end with ']'.")


def never_closed(at: Cursor, opening: Token) -> FormulaError:
    """Explain that the text ends within brackets; the caret stands where they begin."""
    closing = {"(": ")", "[": "]"}[opening.text]
    reason = f"This '{opening.text}' is never closed."
    return at.error(reason, opening.span, f"Add the '{closing}'.")


def _closes_nothing(at: Cursor, token: Token, opening: Token | None = None) -> FormulaError:
    if opening:
        hint = f"The '{opening.text}' before it is closed by ')'."
    else:
        missing = {")": "(", "]": "["}[token.text]
        hint = f"Drop it, or add the '{missing}' that it should close."
    return at.error(f"This '{token.text}' closes nothing.", token.span, hint)


def _misplaced(at: Cursor, token: Token) -> FormulaError:
    if token.text in (")", "]"):
        return _closes_nothing(at, token)
    reason = f"{quote(token.text)} stands outside of brackets."
    return at.error(reason, token.span, f"{JOIN} {BRACKETS}")
