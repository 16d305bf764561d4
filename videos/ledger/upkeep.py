"""What the database knows about the flush, and its housekeeping: delete old batches, merge old hours into days."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db.models import Count, Max, Sum

from videos.changes import COUNTS, HOUR_SECONDS, SUM_COLUMNS, FieldSums, zeros
from videos.conf import conf
from videos.ledger import sql
from videos.ledger.batches import HourGains, newest_batches
from videos.ledger.breaker import DatabaseLacksTable, DatabaseReadOnly
from videos.ledger.doubts import forget_doubts
from videos.ledger.sign_ins import forget_sign_ins
from videos.ledger.sql import STATEMENT_ROWS
from videos.ledger.times import from_stored, to_stored
from videos.ledger.writer import atomic, connection, rows
from videos.models import FlushBatch, StaleLive, VideoHour

LOOSE_HOURS: Final = 100  # of which one run merges rows
TABLES: Final = {
    "mysql": "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()",
    "sqlite": "SELECT name FROM sqlite_master",
}


class FlushFacts(NamedTuple):
    """What the database knows about the flush."""

    last_finished: datetime | None
    finished_ms: dict[int, int]  # shard -> when a batch of it was last finished since then, in Unix milliseconds
    rewound: int
    stale_notes: int
    stuck: frozenset[int]  # shards whose newest batch was claimed before `since` and is not finished


def read_flush_facts(since: datetime) -> FlushFacts:
    """When batches were last finished, how many were rewound, how many notes wait, and which shards are stuck."""
    since = to_stored(since)
    unfinished = rows(FlushBatch).filter(finished_at=None, claimed_at__lt=since).values_list("shard", "number")
    newest = newest_batches() if unfinished else {}
    last = rows(FlushBatch).aggregate(last=Max("finished_at"))["last"]
    # Grouped here: SQLite would group by reading every batch in the order of its shard.
    finished: dict[int, datetime] = {}
    for shard, at in rows(FlushBatch).filter(finished_at__gte=since).values_list("shard", "finished_at"):
        if at is not None:  # for mypy: the filter leaves none of these
            finished[shard] = max(at, finished.get(shard, at))
    return FlushFacts(
        None if last is None else from_stored(last),
        {shard: int(from_stored(at).timestamp() * 1000) for shard, at in finished.items()},
        rows(FlushBatch).filter(rewound__in=[True]).count(),  # `rewound=True` becomes `WHERE rewound`: no index
        rows(StaleLive).count(),
        frozenset(shard for shard, number in unfinished if number == newest[shard]),
    )


def last_hour_sums() -> dict[str, int]:
    """The number of batches that were finished in the last hour, and the sums of their columns."""
    names = ("fields", *FieldSums._fields, *SUM_COLUMNS)
    finished = rows(FlushBatch).filter(finished_at__gt=to_stored(datetime.now(UTC) - timedelta(hours=1)))
    return finished.aggregate(batches=Count("pk"), **{name: Sum(name, default=0) for name in names})


def ping() -> None:
    """Ask whether the database takes writes and has each table.

    Only the names of the tables are read, which waits for no lock. Raises DatabaseReadOnly, DatabaseLacksTable and
    other django.db errors.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@read_only" if connection.vendor == "mysql" else "SELECT 0")
        if cursor.fetchone() != (0,):
            raise DatabaseReadOnly
        cursor.execute(TABLES[connection.vendor])
        found = {name.lower() for (name,) in cursor.fetchall()}
    for model in (*apps.get_app_config("videos").get_models(), get_user_model()):
        if (table := model._meta.db_table).lower() not in found:
            raise DatabaseLacksTable(f"The table {table} is missing.")


def has_one_writer() -> bool:
    """Whether the database lets only one transaction write at a time, as SQLite does."""
    return bool(connection.vendor == "sqlite")


def prune(*, now: datetime) -> None:
    """Delete what is old: doubts, sign-ins, finished batches except each shard's newest; merge old hours into days.

    A Redis that comes back older than all that are left finds that one: it tells that what Redis holds was applied.
    """
    forget_doubts(now)
    forget_sign_ins(now)
    finished = rows(FlushBatch).exclude(finished_at=None)
    floor = dict(finished.order_by().values_list("shard").annotate(Max("number")))
    old = rows(FlushBatch).filter(finished_at__lt=to_stored(now - timedelta(days=conf.BATCHES_DAYS)))
    gone = [
        pk for pk, shard, number in old.values_list("id", "shard", "number")[:STATEMENT_ROWS] if number < floor[shard]
    ]
    rows(FlushBatch).filter(id__in=gone).delete()
    _roll_up_hours(now)


def _roll_up_hours(now: datetime) -> None:
    """Merge some of the old hours into the first hour of their day (UTC), in one transaction; the next run goes on."""
    horizon = (now - timedelta(days=conf.HOURS_DAYS)).replace(hour=0, minute=0, second=0, microsecond=0)
    # Which hour begins a day is decided here: the database would go by TIME_ZONE, and MariaDB and MySQL answer NULL
    # unless their tables of time zones are filled.
    hours = rows(VideoHour).filter(hour__lt=to_stored(horizon)).order_by("hour").values_list("hour", flat=True)
    loose = [hour for hour in hours.distinct() if from_stored(hour).hour or from_stored(hour).minute][:LOOSE_HOURS]
    found = rows(VideoHour).filter(hour__in=loose).order_by("hour")
    chosen = dict(found.values_list("id", "video_id")[:STATEMENT_ROWS])
    if not chosen:
        return
    with atomic(durable=True):
        sql.lock_videos(set(chosen.values()))
        days: HourGains = defaultdict(zeros)
        merged = rows(VideoHour).filter(id__in=chosen)
        for video_id, hour, *gains in merged.values_list("video_id", "hour", *(count.name for count in COUNTS)):
            day = days[video_id, int(from_stored(hour).timestamp()) // (24 * HOUR_SECONDS) * 24]
            for place, gain in enumerate(gains):
                day[place] += gain
        merged.delete()
        sql.add_hours(days)
