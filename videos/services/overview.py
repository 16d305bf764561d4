"""What administrators are shown of the whole service, and what they acknowledge."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from videos.changes import EPOCH, zeros
from videos.ledger import overview
from videos.services.database import database


def gains_by_step(*, step: timedelta, steps: int) -> list[tuple[datetime, list[int]]]:
    """What the flush added in each of the last steps, in the order of COUNTS. Raises Unavailable."""
    begins = _begins(step, steps)
    with database(patient=True):
        found = overview.gains_since(begins[0], step)
    return [(begin, found.get(begin, zeros())) for begin in begins]


def latest_batches(*, most: int) -> Sequence[Any]:
    """The batches that were claimed last. Raises Unavailable."""
    with database():
        return overview.latest_batches(most)


def troubled_batches() -> Mapping[str, Sequence[int]]:
    """Batches that dropped or rejected changes, or may lack some, and are not acknowledged. Raises Unavailable."""
    with database(patient=True):
        return overview.troubled_batches()


def acknowledge(*, batch_ids: Collection[int]) -> int:
    """Note that these batches were seen; returns how many were not yet. Raises Unavailable."""
    with database():
        return overview.acknowledge(batch_ids)


def owned_by(*, user_id: int) -> Mapping[str, int]:
    """How many `videos` a user owns, and their stored counts by name. Raises Unavailable."""
    with database():
        return overview.owned_by(user_id)


def _begins(step: timedelta, steps: int) -> list[datetime]:
    now = datetime.now(UTC)
    last = now - (now - EPOCH) % step
    return [last - step * (steps - 1 - place) for place in range(steps)]
