"""How much of its maxmemory Redis uses, and whether anonymous callers may fill more of it.

A process learns it from an INFO that travels with a view, once a second at most: no round trip of its own.
"""

import logging
import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from videos.conf import conf

logger = logging.getLogger(__name__)

ASK_SECONDS: Final = 1.0  # between two questions of this process
# How long an answer holds. Views of a process that was idle for longer pass until it knows better.
TRUST_SECONDS: Final = 5.0
WARN_SECONDS: Final = 60.0  # between two warnings of this process
# The node that answers is the one that executes the scripts. `exchange` hands its reply to `note`.
QUESTION: Final = ("INFO", "memory")


class Reading(NamedTuple):
    """What Redis said."""

    share: float  # of its maxmemory; 0 without one
    at: float  # on time.monotonic()


_reading = Reading(0.0, 0.0)
_asked_at = _warned_at = float("-inf")


def share_of(info: bytes) -> float:
    """How much of its maxmemory Redis uses, by its INFO; 0 without a maxmemory."""
    facts = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
    limit = int(facts.get("maxmemory", 0))
    return int(facts["used_memory"]) / limit if limit else 0.0


def is_full() -> bool:
    """Whether Redis uses more than VIDEOS_ANONYMOUS_MEMORY_SHARE of its maxmemory, as far as this process knows."""
    share, at = _reading
    return share > conf.ANONYMOUS_MEMORY_SHARE < 1 and time.monotonic() - at < TRUST_SECONDS


def question() -> Sequence[tuple[Any, ...]]:
    """The command that asks, if it is time, to send after all others."""
    global _asked_at
    now = time.monotonic()
    if now - _asked_at < ASK_SECONDS or conf.ANONYMOUS_MEMORY_SHARE >= 1:
        return ()
    _asked_at = now
    return (QUESTION,)


def note(info: Any) -> None:
    """Note the reply to the question. An error is none: it must not fail the commands that were sent with it."""
    if isinstance(info, bytes):
        _note(share_of(info))


def note_refusal() -> None:
    """Note that Redis refused a command for want of memory."""
    _note(1.0)


def known_share() -> float:
    """What was noted last."""
    return _reading.share


def forget() -> None:
    """Forget what another server said."""
    global _reading, _asked_at
    _reading, _asked_at = Reading(0.0, 0.0), float("-inf")


def _note(share: float) -> None:
    global _reading, _warned_at
    _reading = Reading(share, time.monotonic())
    if is_full() and _reading.at - _warned_at >= WARN_SECONDS:
        _warned_at = _reading.at
        logger.warning(
            "Redis uses more than %.0f %% of its maxmemory (VIDEOS_ANONYMOUS_MEMORY_SHARE): views of anonymous callers "
            'are not counted, and answered with the reason "full". Give Redis more memory, or see who sends them.',
            100 * conf.ANONYMOUS_MEMORY_SHARE,
        )
