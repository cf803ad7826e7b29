"""What tests of training share."""

from __future__ import annotations

from typing import Any

import pytest

from pmflow.training import trainer
from pmflow.training.loops import engine


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """One entry a loop that is compiled from now on."""
    calls: list[Any] = []
    compile_loop = engine.compile_loop

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs)
        return compile_loop(*args, **kwargs)

    monkeypatch.setattr(trainer, "compile_loop", counted)
    return calls
