"""How a gentle flush spreads its work: rests after each piece, none long, and computes when nobody else wants to.

So nobody waits long behind one: on a machine of two cores a process that computes for 12 ms of every 100 adds a third
to the 99th percentile of the requests beside it (docs/benchmarks.md, "Is the flush felt?").
"""

from __future__ import annotations

import contextlib
import os
import time

REST_MOST = 9.0  # seconds of rest a second of work
REST_MAX_SECONDS = 0.05  # rows are locked while a run rests within a transaction


class Pace:
    """When to rest, and how long: so that what waits is moved in the time that is given, or in ten times its work."""

    def __init__(self, *, seconds: float, waiting: int) -> None:
        self._begin = self._rested_until = time.monotonic()
        self._seconds = seconds
        self._waiting = waiting  # fields
        self._rested = 0.0  # seconds
        self._moving = 0.0  # seconds of work that moved fields
        self._moved = 0
        self._ratio = REST_MOST

    def is_over(self) -> bool:
        """Whether the time that was given is over."""
        return time.monotonic() >= self._begin + self._seconds

    def rest(self) -> None:
        """Rest from the work that was done since the last rest."""
        now = time.monotonic()
        rest = min((now - self._rested_until) * self._ratio, REST_MAX_SECONDS)
        if rest > 0:
            time.sleep(rest)
        self._rested_until = time.monotonic()
        self._rested += self._rested_until - now

    def worked(self) -> float:
        """Seconds since the begin, rests left out."""
        return time.monotonic() - self._begin - self._rested

    def moved(self, fields: int, seconds: float) -> None:
        """Tell what was moved, and how long it was worked on: what lies ahead takes as long, all else is for rests."""
        self._moved += fields
        self._moving += seconds
        ahead = self._moving / max(self._moved, 1) * max(self._waiting - self._moved, 1)
        left = self._begin + self._seconds - time.monotonic()
        self._ratio = min(max(left / ahead - 1, 0.0), REST_MOST) if ahead > 0 else REST_MOST


def give_way() -> None:
    """Let this thread compute only when no other one wants to, where the system has such a policy: Linux.

    Without privileges there is no way back for a thread. Linux compares within a control group, or, outside of any,
    within a session.
    """
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # 0 is the calling thread
