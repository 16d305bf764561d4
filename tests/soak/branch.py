"""One set-back of a soak: an older copy of a store beside a copy of the other, then load, flushes, an audit.

Needs Django.
"""

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from django.db.models import Max

from tests.soak.audit import audit
from tests.soak.book import Book, Pair
from tests.soak.copies import Copy
from tests.soak.stack import Stack
from tests.soak.stores import Stores
from tests.soak.straggler import Straggler
from tests.support.load import Load
from videos import counters, flush, ledger
from videos.changes import LIKE, Changes
from videos.conf import conf
from videos.counters import connection as redis_connection
from videos.fields import sort_in
from videos.flush import shard as shard_flush
from videos.models import FlushBatch, Meeting, Video, VideoLike

LOAD_SECONDS: Final = 0.6
TOLD_SECONDS: Final = (1.5, 10.0)  # a request may have been on its way for longer than the first
FLUSHES: Final = 6  # at most, until nothing is left
FIRST_VIEWER: Final = 1_000_000


@dataclass
class Branch:
    """Which copies are put beside each other."""

    seed: int
    kind: str  # "database", "redis" or "both": what is older than the service
    redis: Copy
    database: Copy
    newest: tuple[Copy, Copy]  # of Redis and of the database
    off: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def play(
    branch: Branch,
    stack: Stack,
    folder: Path,
    book: Callable[[float], Book],
    *,
    users: list[int],
    broken: str | None = None,
) -> None:
    """Set back what is older, go on, and note what is off.

    `book(seconds)` is that of the moment at which Redis stood still, with what the clients have told since for so long.
    """
    choose = random.Random(branch.seed)
    with Stores(stack, folder) as stores, _broken(broken):
        straggler, late = _set_back(branch, stores, choose)
        if broken == "done":
            _drop_done(stores)
        known = _Rows.of_newer(stores.lasts())
        with Load(known.videos, users, threads=2, rest=0.003, first_viewer=FIRST_VIEWER, seed=branch.seed) as load:
            end = time.monotonic() + LOAD_SECONDS
            while time.monotonic() < end:
                time.sleep(choose.uniform(0, LOAD_SECONDS / 2))
                if straggler is not None:
                    straggler.go_on()
                _flush(branch)
        if straggler is not None:
            straggler.join()
        _flush_all(branch)
        branch.counts.update({"acknowledged": load.acknowledged, "refused": load.refused})
        off: list[str] = []
        for seconds in TOLD_SECONDS if broken is None else TOLD_SECONDS[:1]:
            expected = known.correct(book(seconds))
            _allow(late, expected)
            _enter(load, expected)
            _, off = audit(expected, known.videos, may_be_rewound=branch.kind != "database")
            if not off:
                return
        branch.off += off


def _set_back(branch: Branch, stores: Stores, choose: random.Random) -> tuple[Straggler | None, dict[int, Changes]]:
    """Put the copies in place; in half of the branches while a flush of before stands still.

    Returns that flush, and what it may still write of what Redis forgets: until Redis meets the database, nothing
    stops it.
    """
    goes_on = branch.kind == "database" and choose.random() < 0.8  # Redis does
    if choose.random() < 0.5:
        stores.set_redis(branch.redis)
        stores.set_database(branch.database)
        if goes_on:
            stores.keep_run()
        return None, {}
    redis, database = branch.newest
    stores.set_redis(redis)
    stores.set_database(database)
    stores.keep_run()
    straggler = Straggler(choose)
    straggler.start()
    branch.counts["stragglers"] += 1
    if branch.database != database:
        stores.set_database(branch.database)
        if goes_on:
            stores.keep_run()
    late: dict[int, Changes] = {}
    if not goes_on:
        sort_in(stores.claimed(straggler.shard), late, [])
        stores.set_redis(branch.redis)
    return straggler, late


def _flush(branch: Branch) -> flush.FlushReport:
    report = flush.run_flush()
    branch.counts.update({"replayed": report.replayed, "rewound": report.rewound})
    return report


def _flush_all(branch: Branch) -> None:
    failures: dict[int, str] = {}
    for _ in range(FLUSHES):
        failures = _flush(branch).failures
        if not failures and not any(depth.pending or depth.claimed for depth in counters.depths()):
            return
    branch.off.append(f"not flushed: {failures}, {counters.depths()}")


def _allow(late: dict[int, Changes], book: Book) -> None:
    for video, changes in late.items():
        for mark in changes.marks:
            book.leave_open((video, mark.user_id), liked=mark.value == LIKE)
        book.open_views[video] += sum(tally.amount for tally in changes.tallies if tally.name == "views")


def _enter(load: Load, book: Book) -> None:
    for pair, value in load.wishes.items():
        book.acknowledge_wish(pair, liked=value == LIKE)
    for pair in load.unknown:
        book.open_wishes[pair] = {True, False}
    book.views.update(load.views)
    book.open_views.update(load.unsure)


class _Rows(NamedTuple):
    """What the database knows and Redis has forgotten: rows with a newer batch, or of a shard with a newer one.

    Of all other rows Redis knows what the database does, and more.
    """

    videos: list[int]  # all
    views: dict[int, int]  # of videos with newer rows
    likes: set[Pair]

    @classmethod
    def of_newer(cls, lasts: dict[int, int]) -> Self:
        """Read them, before anything goes on. `lasts`: the newest batch of each shard that Redis knows."""
        finished = dict(FlushBatch.objects.exclude(finished_at=None).values_list("shard").annotate(Max("number")))
        rows = {row.pk: row for row in Video.objects.all()}
        newer = {
            pk: row.view_count for pk, row in rows.items()
            if max(row.flushed_batch, finished.get(pk % conf.SHARDS, 0)) > lasts[pk % conf.SHARDS]
        }  # fmt: skip
        return cls(
            list(rows),
            newer,
            set(VideoLike.objects.filter(video__in=newer, value=LIKE).values_list("video_id", "user_id")),
        )

    def correct(self, book: Book) -> Book:
        """What both know together, from the book of what Redis knows."""
        wishes = {pair: liked for pair, liked in book.wishes.items() if pair[0] not in self.views}
        return Book(
            wishes | dict.fromkeys(self.likes, True),
            {pair: made for pair, made in book.open_wishes.items() if pair[0] not in self.views},
            Counter({**book.views, **self.views}),
            Counter({pk: number for pk, number in book.open_views.items() if pk not in self.views}),
        )


# Rules that `--break` leaves out: the audit must find each.


@contextlib.contextmanager
def _broken(rule: str | None) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for owner, name, value in BREAKS.get(rule or "", ()):
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        yield


def _drop_done(stores: Stores) -> None:
    client = stores.redis.client()
    for key in client.scan_iter("*:done:*", count=1000):
        client.unlink(key)


_meet = ledger.meet


def _meet_without_fence(run: str, known: Any, **options: Any) -> Any:
    found = _meet(run, known, **options)
    for shard, (_, fence) in known.items():
        Meeting.objects.filter(shard=shard).update(fence=fence)
        FlushBatch.objects.filter(shard=shard).update(fence=fence)
    return {shard: (known[shard][1], newer) for shard, (_, newer) in found.items()}


BREAKS: Final[dict[str, tuple[tuple[Any, str, Any], ...]]] = {
    "done": (),  # see _drop_done
    "fence": ((ledger, "meet", _meet_without_fence),),
    "meeting": ((redis_connection, "_meet", None),),
    "replay": ((shard_flush, "compare", lambda run, shard, pause_point, foreseen: foreseen.kept),),
}
