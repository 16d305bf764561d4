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
    """How far Redis' clock is ahead of time.monotonic(). A wall clock would not do: it may be set at any time."""

    seconds: float
    error_seconds: float  # at most, when it was read
    read_at: float  # on time.monotonic()

    def is_better_than(self, other: Skew) -> bool:
        """Whether this later reading is the more exact one now, or one of the two clocks was set since the other."""
        drifted = DRIFT * (self.read_at - other.read_at)
        apart = abs(self.seconds - other.seconds)
        return (
            self.error_seconds <= other.error_seconds + drifted
            or apart > self.error_seconds + other.error_seconds + drifted
        )


_skew: Skew | None = None


def now_ms() -> int:
    """Unix milliseconds by Redis' clock, which all processes share, or by this machine's if Redis' was never read."""
    return int((time.time() if _skew is None else time.monotonic() + _skew.seconds) * 1000)


def note(server: float, sent: float, received: float) -> None:
    """Note what Redis' clock said between these two moments of time.monotonic(), in Unix seconds."""
    global _skew
    error = (received - sent) / 2
    skew = Skew(server + error - received, error, received)
    if _skew is None or skew.is_better_than(_skew):
        _skew = skew


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
        sent = time.monotonic()
        connection.send_packed_command([pack_command(("TIME",))], check_health=False)
        seconds, microseconds = map(int, connection.read_response())
        server, received = seconds + microseconds / 1e6, time.monotonic()
        self._ahead, self._read_at = server - received, received
        note(server, sent, received)
        return received

    def with_deadlines(self, commands: Sequence[tuple[Any, ...]], seconds: float) -> list[tuple[Any, ...]]:
        """The commands with their deadlines: the server's time when a client that waits from now on stops waiting."""
        deadline = int((time.monotonic() + self._ahead + seconds - MARGIN_SECONDS) * 1000)
        return [(*command[:-1], deadline) if command[-1] is scripts.DEADLINE else command for command in commands]
