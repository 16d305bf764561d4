"""Windows of hits that all processes share, for throttles."""

from collections.abc import Sequence
from typing import NamedTuple

from videos.counters import scripts
from videos.counters.connection import send
from videos.counters.keys import hits_key


class Hits(NamedTuple):
    """Hits to add to a window. `name` is at most 64 characters, and no address in clear."""

    name: str
    number: int
    seconds: int  # that a window lasts


def count_hits(hits: Sequence[Hits]) -> list[tuple[int, float]]:
    """Add hits, in one round trip; return the hits of each window now, and the seconds until it ends.

    Raises CountersUnavailable.
    """
    commands = [scripts.HITS.command((hits_key(name),), number, 1000 * seconds) for name, number, seconds in hits]
    return [(total, left_ms / 1000) for total, left_ms in send(commands)]
