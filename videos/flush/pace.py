"""How a gentle flush spreads its work: it rests after each piece, and uses the CPU only when no other process wants it.

On a machine of two cores a process that computes for 12 ms of every 100 adds a third to the 99th percentile of the
requests beside it (docs/benchmarks.md, "Is the flush felt?").
"""

import contextlib
import os
import time

REST_MOST = 9.0  # seconds of rest for each second of work
REST_MAX_SECONDS = 0.05  # of one rest: rows stay locked if it is within a transaction


class Pace:
    """How long to rest after each piece of work, so that the waiting fields and notes are done in the given time."""

    def __init__(self, *, seconds: float, waiting: int) -> None:
        self._begin = self._rested_until = time.monotonic()
        self._seconds = seconds
        self._waiting = waiting  # fields and notes
        self._rested = 0.0  # seconds
        self._moving = 0.0  # seconds of work that moved fields
        self._moved = 0
        self._ratio = REST_MOST

    def is_over(self) -> bool:
        """Whether the given time is over."""
        return time.monotonic() >= self._begin + self._seconds

    def rest(self) -> None:
        """Rest in proportion to the work since the last rest."""
        now = time.monotonic()
        rest = min((now - self._rested_until) * self._ratio, REST_MAX_SECONDS)
        if rest > 0:
            time.sleep(rest)
        self._rested_until = time.monotonic()
        self._rested += self._rested_until - now

    def worked(self) -> float:
        """Seconds of work so far, without rests."""
        return time.monotonic() - self._begin - self._rested

    def note_moved(self, pieces: int, seconds: float) -> None:
        """Note how long fields or notes took. Those ahead should take as long; the other time is left for rests."""
        self._moved += pieces
        self._moving += seconds
        ahead = self._moving / max(self._moved, 1) * max(self._waiting - self._moved, 1)
        left = self._begin + self._seconds - time.monotonic()
        self._ratio = min(max(left / ahead - 1, 0.0), REST_MOST) if ahead > 0 else REST_MOST


def lower_priority() -> None:
    """Give this thread the lowest priority, SCHED_IDLE, which only Linux has.

    A thread without privileges cannot leave this priority. Linux compares threads within a control group, or within a
    session if there is no control group.
    """
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # 0 is the calling thread
