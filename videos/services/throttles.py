"""Throttles: what all processes count together, while Redis is there."""

from collections.abc import Sequence

from videos import counters
from videos.counters import Hits

__all__ = ["Hits", "count_hits"]


def count_hits(hits: Sequence[Hits]) -> list[tuple[int, float]] | None:
    """Add hits to windows of all processes: the hits of each now, the seconds until it ends. None: Redis is away."""
    try:
        return counters.count_hits(hits)
    except counters.CountersUnavailable:
        return None
