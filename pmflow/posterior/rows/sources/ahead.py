"""Reading what comes next while what came before is worked on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

__all__ = ["ahead"]

_END = object()


def ahead[T](items: Iterator[T]) -> Iterator[T]:
    """The same items; a thread gets the next one while one is in use.

    Errors are raised where the item would have come.
    """
    with ThreadPoolExecutor(1) as thread:
        following: Any = thread.submit(next, items, _END)
        while (item := following.result()) is not _END:
            following = thread.submit(next, items, _END)
            yield item
