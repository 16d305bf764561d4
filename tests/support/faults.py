"""Faults that a test puts in the place of what works."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from videos.counters import CountersUnavailable, connection


def failing(error: BaseException | type[BaseException]) -> Callable[..., Any]:
    """A function that takes any arguments and raises this error."""

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


@contextmanager
def redis_refusing(*, refuses: bool = True) -> Iterator[None]:
    """Inside, Redis refuses every command of this process."""
    with pytest.MonkeyPatch.context() as patch:
        if refuses:
            patch.setattr(connection, "exchange", failing(CountersUnavailable()))
        yield
