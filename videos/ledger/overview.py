"""What the admin's first page reads of the database: gains by time, batches that someone should look at."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db.models import Count, Q, Sum
from django.db.models.functions import TruncHour, TruncMinute

from videos.changes import COUNTS
from videos.ledger.times import from_stored, stored_zone, to_stored
from videos.ledger.writer import rows
from videos.models import FlushBatch, Video

MOST_TROUBLED: Final = 1_000
TROUBLES: Final = ("dropped", "rejected", "rewound")
_TRUNCATE: Final = {timedelta(minutes=1): TruncMinute, timedelta(hours=1): TruncHour}
_SUMS: Final = [
    column
    for count in COUNTS
    for column in ((f"{count.name}_added", f"{count.name}_removed") if count.kind == "mark" else (count.name,))
]


def gains_since(since: datetime, step: timedelta) -> dict[datetime, list[int]]:
    """What the flush added in each minute or hour since a time, in the order of COUNTS, by the end of its batches."""
    # In the zone of the rows, so that the database need not know zones.
    zone = stored_zone() if settings.USE_TZ else None
    begin = _TRUNCATE[step]("finished_at", tzinfo=zone)
    batches = rows(FlushBatch).filter(finished_at__gte=to_stored(since)).order_by().annotate(begin=begin)
    sums = batches.values("begin").annotate(**{f"sum_{name}": Sum(name) for name in _SUMS})
    found = {}
    row: Any
    for row in sums:
        each = iter([int(row[f"sum_{name}"]) for name in _SUMS])
        found[from_stored(row["begin"])] = [
            next(each) - next(each) if count.kind == "mark" else next(each) for count in COUNTS
        ]
    return found


def latest_batches(most: int) -> list[FlushBatch]:
    """The batches that were claimed last."""
    return list(rows(FlushBatch).order_by("-pk")[:most])


def troubled_batches() -> dict[str, Sequence[int]]:
    """Batches that dropped, rejected or may lack changes, and are not acknowledged: at most MOST_TROUBLED each."""
    new = rows(FlushBatch).filter(acknowledged=False).order_by("-pk").values_list("pk", flat=True)
    # `rewound=True` becomes `WHERE rewound`, which uses no index.
    conditions = {"dropped": Q(dropped__gt=0), "rejected": Q(rejected__gt=0), "rewound": Q(rewound__in=[True])}
    return {name: list(new.filter(conditions[name])[:MOST_TROUBLED]) for name in TROUBLES}


def acknowledge(batch_ids: Collection[int]) -> int:
    """Note that an administrator has seen what these batches dropped, rejected or may lack."""
    return rows(FlushBatch).filter(pk__in=batch_ids, acknowledged=False).update(acknowledged=True)


def owned_by(user_id: int) -> dict[str, int]:
    """How many videos a user owns, and their stored counts by name."""
    sums = {count.name: Sum(count.column, default=0) for count in COUNTS}
    return dict(rows(Video).filter(owner=user_id).aggregate(videos=Count("pk"), **sums))
