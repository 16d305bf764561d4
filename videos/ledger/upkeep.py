"""What the database knows about the flush, and its housekeeping: delete old batches, merge old hours into days."""

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db.models import Count, Max, Sum

from videos.changes import SUM_COLUMNS, FieldSums
from videos.conf import conf
from videos.ledger import history
from videos.ledger.batches import newest_batches
from videos.ledger.breaker import DatabaseLacksTable, DatabaseReadOnly
from videos.ledger.doubts import forget_doubts
from videos.ledger.sign_ins import forget_sign_ins
from videos.ledger.sql import STATEMENT_ROWS
from videos.ledger.times import from_stored, to_stored
from videos.ledger.trending import forget_trends
from videos.ledger.writer import connection, rows
from videos.models import FlushBatch, StaleLive

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
        rows(FlushBatch)
        .filter(rewound__in=[True], acknowledged=False)
        .count(),  # `rewound=True` becomes `WHERE rewound`: no index
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
    history.roll_up(now)
    history.merge_site_hours()
    forget_trends(now.timestamp())
