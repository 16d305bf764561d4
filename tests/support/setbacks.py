"""Redis and the database set back to an earlier state, as steps of a random order; and what may be lost then.

A mark remembers the state of a store, a later step restores it: a prefix of its commands, or of its commits. Redis may
also come back empty. A restored Redis is another run: each actor meets it before its next command.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import redis
from django.db import connection, transaction

from videos import counters, ledger
from videos.changes import COLUMNS, NOTHING
from videos.models import (
    CountersIdentity,
    FlushBatch,
    Meeting,
    SiteHour,
    StaleLive,
    TrendingVideo,
    Video,
    VideoHour,
    VideoLike,
)  # fmt: skip

if TYPE_CHECKING:
    from tests.support.interleaving import World

TABLES = (VideoLike, VideoHour, SiteHour, TrendingVideo, FlushBatch, StaleLive, Meeting, CountersIdentity)
COUNTS = (*COLUMNS, "flushed_batch")
Wish = tuple[int, int]


@cache
def _client() -> redis.Redis:
    return redis.Redis.from_url(os.environ["REDIS_URL"], protocol=2)


class Setbacks:
    """The set-backs of one order, and what the stores know."""

    def __init__(self, world: World, stores: Sequence[str]) -> None:
        self.world = world
        self.stores = stores
        self.left = {store: world.random.choice((1, 2, 4)) for store in stores}
        self.marks: dict[str, Any] = {}
        self.raw = _client()
        self.wishes: dict[Wish, list[int]] = {}  # of each user and video, acknowledged, in order
        self.in_rows: dict[Wish, int] = {}  # how many of them were made when the last went to the rows
        self.at_claim: dict[int, dict[Wish, int]] = {}  # how many of them a batch knows
        self.redis_knows: tuple[dict[Wish, int], Counter[int]] | None = None  # until the next meeting
        self.both: set[Wish] = set()  # acknowledged since the last set-back of any store
        self.newer_views: Counter[int] = Counter()  # as many views
        self.viewed_ever: Counter[int] = Counter()

    def act(self) -> bool:
        """Perhaps mark a store or set it back. Call it while no transaction is open."""
        choose = self.world.random
        if not self.stores or choose.random() > 0.03:
            return False
        store = choose.choice(list(self.stores))
        if store not in self.marks:
            self.marks[store] = self._state_of(store)
        elif self.left[store]:
            self.left[store] -= 1
            self._set_back(store)
        return True

    def last(self) -> None:
        """Perhaps set the stores back once more, when all actors have ended."""
        for store in self.stores:
            if store in self.marks and self.world.random.random() < 0.3:
                self._set_back(store)

    def note_wish(self, video: int, user: int, wish: int, *, stored: bool) -> None:
        """A wish was acknowledged; `stored`: it went to the rows, because Redis was set back again and again."""
        made = self.wishes.setdefault((video, user), [])
        made.append(wish)
        if stored:
            self.in_rows[video, user] = len(made)
        self.both.add((video, user))

    def note_claim(self, number: int, *, found: bool) -> None:
        """A batch was claimed, or `found` open. A number that both stores have forgotten is claimed again."""
        if not found or number not in self.at_claim:
            self.at_claim[number] = self._lengths()

    def note_meeting(self, last: int) -> None:
        """Redis and the database met: from now on they know together what either knows, and nothing else.

        `last` is the newest batch that Redis knows. An unfinished newer one gets what is pending.
        """
        if self.redis_knows is None:
            return
        (lengths, views), self.redis_knows = self.redis_knows, None
        world = self.world
        batches = FlushBatch.objects.exclude(finished_at=None).order_by("-number")
        finished = list(batches.values_list("number", "postponed"))
        rows = {row.pk: row for row in Video.objects.all()}
        for video, row in rows.items():
            world.viewed[video] = max(views[video], row.view_count)
        for key, made in self.wishes.items():
            by_rows = self.at_claim.get(rows[key[0]].flushed_batch, {}).get(key, 0)
            covering = next((number for number, postponed in finished if key[0] not in postponed), 0)
            by_batch = self.at_claim.get(covering, {}).get(key, 0)
            del made[max(lengths.get(key, 0), by_rows, by_batch, self.in_rows.get(key, 0)) :]
            world.wish[key] = made[-1] if made else NOTHING
        for number in FlushBatch.objects.filter(finished_at=None, number__gt=last).values_list("number", flat=True):
            self.at_claim[number] = self._lengths()

    def judge(self) -> None:
        """Where both stores were set back, relax what must hold: what one of them knows for sure."""
        world = self.world
        if len(self.stores) < 2:
            return
        rows = VideoLike.objects.values_list("video_id", "user_id", "value")
        marks = {(video, user): value for video, user, value in rows}
        for key in world.wish:
            if key not in self.both:
                world.wish[key] = marks.get(key, NOTHING)
        for row in Video.objects.all():
            if self.newer_views[row.pk] <= row.view_count <= self.viewed_ever[row.pk]:
                world.viewed[row.pk] = row.view_count

    def _lengths(self) -> dict[Wish, int]:
        return {key: len(made) for key, made in self.wishes.items()}

    def _state_of(self, store: str) -> Any:
        if store == "redis":
            keys = list(self.raw.scan_iter())
            values = {key: (self.raw.dump(key), max(self.raw.pttl(key), 0)) for key in keys}
            return values, *(self.redis_knows or (self._lengths(), Counter(self.world.viewed)))
        rows = {model: list(model.objects.all()) for model in TABLES}
        return rows, list(Video.objects.values("id", *COUNTS))

    def _set_back(self, store: str) -> None:
        mark = self.marks.pop(store)
        self.both.clear()
        self.newer_views.clear()
        if store == "database":
            with transaction.atomic():
                for model, rows in mark[0].items():
                    with connection.cursor() as cursor:
                        cursor.execute(f"DELETE FROM {model._meta.db_table}")  # noqa: S608
                    model.objects.bulk_create(rows)
                for row in mark[1]:
                    Video.objects.filter(pk=row["id"]).update(**{name: row[name] for name in COUNTS})
            return
        values, lengths, views = mark
        if self.world.random.random() < 0.15:
            values, lengths, views = {}, {}, Counter[int]()
        self.raw.flushdb()
        for key, (value, ttl) in values.items():
            self.raw.restore(key, ttl, value)
        self.redis_knows = lengths, views
        type(self.world).redis_run += 1


def watch(setbacks: Setbacks, patch: Any) -> None:
    """Tell `setbacks` of claims and meetings."""
    claim, meet = counters.Batch.claim, ledger.meet

    def noted_claim(**values: Any) -> Any:
        claimed = claim(**values)
        if claimed.batch is not None:
            setbacks.note_claim(claimed.batch.number, found=claimed.batch.claimed_ms != values["at_ms"])
        return claimed

    def noted_meet(run: str, known: Any, **kwargs: Any) -> Any:
        met = meet(run, known, **kwargs)
        if run == f"run{type(setbacks.world).redis_run}":
            setbacks.note_meeting(known[0][0])
        return met

    patch.setattr(counters.Batch, "claim", noted_claim)
    patch.setattr(ledger, "meet", noted_meet)
