"""Cases of a parametrized test that only `make test-all` runs."""

from __future__ import annotations

from typing import Any

import pytest


def slow(*values: Any, name: str | None = None) -> Any:
    """A case like `pytest.param`, one of several that look at the same from another side."""
    return pytest.param(*values, id=name, marks=pytest.mark.slow)
