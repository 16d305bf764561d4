"""Redis' clock, as a connection has read it: for the deadlines of scripts and for the times of wishes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from hiredis import pack_command

from videos.counters import scripts

CLOCK_SECONDS: Final = 10.0  # how long the server's time is computed from one reading
DRIFT: Final = 2e-4  # by how much two clocks may run apart
# A script's deadline ends this much before the client stops waiting, because clocks drift and replies take time.
MARGIN_SECONDS: Final = 0.01


class Skew(NamedTuple):
    """How far Redis' clock is ahead of this machine's."""

    seconds: float
    error_seconds: float  # at most, when it was read
    read_at: float  # on time.monotonic()

    def is_better_than(self, other: Skew) -> bool:
        """Whether this later reading is the more exact one now."""
        return self.error_seconds <= other.error_seconds + DRIFT * (self.read_at - other.read_at)


_skew: Skew | None = None


def now_ms() -> int:
    """Unix milliseconds by Redis' clock, which all processes share, or by this machine's if Redis' was never read."""
    return int((time.time() + (0.0 if _skew is None else _skew.seconds)) * 1000)


def forget() -> None:
    """Forget the readings of another server."""
    global _skew
    _skew = None


class Clock:
    """The time of one connection's server, computed from a reading and the monotonic time since."""

    def __init__(self) -> None:
        self._read_at: float | None = None  # on time.monotonic()
        self._ahead = 0.0  # of time.monotonic(), at least

    def is_fresh(self) -> bool:
        """Whether the last reading still counts."""
        return self._read_at is not None and time.monotonic() - self._read_at < CLOCK_SECONDS

    def distrust(self) -> None:
        """Let the server's time be read again."""
        self._read_at = None

    def read(self, connection: Any) -> float:
        """Ask the server for its time, on a connection of redis-py; returns when the answer came."""
        global _skew
        sent, wall = time.monotonic(), time.time()
        connection.send_packed_command([pack_command(("TIME",))], check_health=False)
        seconds, microseconds = map(int, connection.read_response())
        server, received = seconds + microseconds / 1e6, time.monotonic()
        self._ahead, self._read_at = server - received, received
        error = (received - sent) / 2
        skew = Skew(server - wall - error, error, received)
        if _skew is None or skew.is_better_than(_skew):
            _skew = skew
        return received

    def with_deadlines(self, commands: Sequence[tuple[Any, ...]], seconds: float) -> list[tuple[Any, ...]]:
        """The commands with their deadlines: the server's time when a client that waits from now on stops waiting."""
        deadline = int((time.monotonic() + self._ahead + seconds - MARGIN_SECONDS) * 1000)
        return [(*command[:-1], deadline) if command[-1] is scripts.DEADLINE else command for command in commands]
