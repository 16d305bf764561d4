"""How a gentle flush spreads its work: it rests after each piece, and takes the CPU when no other process wants it.

On a machine of two cores a process that computes for 12 ms of every 100 adds a third to the 99th percentile of the
requests beside it (docs/benchmarks.md, "Is the flush felt?").
"""

from __future__ import annotations

import contextlib
import os
import time

REST_MOST = 9.0  # seconds of rest a second of work
REST_MAX_SECONDS = 0.05  # rows are locked while a run rests within a transaction


class Pace:
    """When to rest, and how long: so that what waits is moved in the given time, or in ten times its work."""

    def __init__(self, *, seconds: float, waiting: int) -> None:
        self._begin = self._rested_until = time.monotonic()
        self._seconds = seconds
        self._waiting = waiting  # fields
        self._rested = 0.0  # seconds
        self._moving = 0.0  # seconds of work that moved fields
        self._moved = 0
        self._ratio = REST_MOST

    def is_over(self) -> bool:
        """Whether the given time is over."""
        return time.monotonic() >= self._begin + self._seconds

    def rest(self) -> None:
        """Rest from the work since the last rest."""
        now = time.monotonic()
        rest = min((now - self._rested_until) * self._ratio, REST_MAX_SECONDS)
        if rest > 0:
            time.sleep(rest)
        self._rested_until = time.monotonic()
        self._rested += self._rested_until - now

    def worked(self) -> float:
        """Seconds since the begin, rests left out."""
        return time.monotonic() - self._begin - self._rested

    def note_moved(self, fields: int, seconds: float) -> None:
        """Learn what was moved in how much work: the fields ahead take as long, the rest of the time is for rests."""
        self._moved += fields
        self._moving += seconds
        ahead = self._moving / max(self._moved, 1) * max(self._waiting - self._moved, 1)
        left = self._begin + self._seconds - time.monotonic()
        self._ratio = min(max(left / ahead - 1, 0.0), REST_MOST) if ahead > 0 else REST_MOST


def lower_priority() -> None:
    """Give this thread the lowest priority (SCHED_IDLE), where the system has it: Linux.

    Without privileges the thread keeps it to its end. Linux compares threads within a control group, or, outside of
    any, within a session.
    """
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # 0 is the calling thread
