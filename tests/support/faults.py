"""Faults that a test puts in the place of what works."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from videos import counters
from videos.counters import CountersUnavailable, connection
from videos.ledger import breaker


def end_pauses() -> None:
    """Let the next call ask Redis and the database again, however lately one of them did not answer."""
    connection._away_until = 0.0
    breaker._away = False


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


def install_ticks(patch: pytest.MonkeyPatch, *, first: int = 0, step: int = 1) -> None:
    """Let this process and Redis share a clock that moves on at each reading: all wishes have an order.

    `first` is its first time, after now, and `step` how far it moves, in ms.
    """
    ticks = itertools.count(counters.now_ms() + first, step)
    patch.setattr(counters, "now_ms", partial(next, ticks))
    set_mark = counters.set_mark
    patch.setattr(counters, "set_mark", lambda **wish: set_mark(**{"at_ms": next(ticks)} | wish))
