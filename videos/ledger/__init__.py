"""The database room: the only writer of like rows and of count columns. Knows no Redis.

Every change to a video's likes, its views or its counts is made under the lock of the video's row, and rows are
locked in the order of their ids: so `like_count` always equals the number of like rows, and writers do not deadlock
on videos.
"""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeAlias, TypeVar

from django.contrib.auth import get_user_model
from django.db import DataError, IntegrityError, OperationalError, connection, transaction
from django.db.models import Count, F, Max

from videos.conf import conf
from videos.ledger import sql
from videos.ledger.sql import HOUR_SECONDS, STATEMENT_ROWS, Sums, parts
from videos.models import FlushBatch, StaleLive, Video, VideoHour, VideoLike

logger = logging.getLogger(__name__)

TRIES = 8  # of a transaction that met a deadlock, a lock timeout, or a user who was just deleted
DEADLOCK, LOCK_TIMEOUT, OUT_OF_RANGE = 1213, 1205, 1690  # MySQL's and MariaDB's error numbers

BIGINT_MAX = 2**63 - 1

T = TypeVar("T")


class LikeChange(NamedTuple):
    """What a user last wished of a video."""

    user_id: int
    liked: bool
    at_ms: int  # Unix milliseconds


class ViewChange(NamedTuple):
    """Views of a video in an hour."""

    hour: int  # hours since 1970
    views: int


class Changes:
    """What has gathered for one video.

    Added twice, a change of one user, or of one hour, counts once: the later stands.
    """

    __slots__ = ("_likes", "_views")

    def __init__(self, likes: Iterable[LikeChange] = (), views: Iterable[ViewChange] = ()) -> None:
        # Made for each video of a flush, mostly empty.
        self._likes = {like.user_id: like for like in likes} if likes else {}
        self._views = {view.hour: view for view in views} if views else {}

    def add(self, change: LikeChange | ViewChange) -> None:
        """Take one more change in."""
        if isinstance(change, LikeChange):
            self._likes[change.user_id] = change
        else:
            self._views[change.hour] = change

    @property
    def likes(self) -> Collection[LikeChange]:
        """By user, each once."""
        return self._likes.values()

    @property
    def views(self) -> Collection[ViewChange]:
        """By hour, each once."""
        return self._views.values()

    def __len__(self) -> int:
        return len(self._likes) + len(self._views)


@dataclass(slots=True)
class Outcome:
    """What became of one video's changes. `counts`: likes and views in its row now; None when the video is gone."""

    counts: tuple[int, int] | None
    repeated: bool = False  # the row had taken in this batch before: nothing was changed now
    dropped: frozenset[int] = frozenset()  # users who are gone; all else was applied


class Row(NamedTuple):
    """What the counters begin with: the counts, and what the rules of views need."""

    likes: int
    views: int
    owner: int
    duration: int  # seconds


class Wished(NamedTuple):
    """A like that changed outside a batch, as the rows have it now."""

    user_id: int
    liked: bool
    wished_ms: int


class Difference(NamedTuple):
    """A count that does not equal the rows it counts."""

    video_id: int
    stored: int
    counted: int


# What requests read


def read_row(video_id: int, user_id: int | None = None) -> tuple[Row, bool] | None:
    """A video's row, and whether the user likes it, in one query; None: no such video."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT v.like_count, v.view_count, v.owner_id, v.duration, EXISTS(SELECT 1 FROM videos_videolike l "
            "WHERE l.video_id = v.id AND l.user_id = %s) FROM videos_video v WHERE v.id = %s",
            [user_id or 0, video_id],
        )
        row = cursor.fetchone()
    return None if row is None else (Row(*row[:4]), bool(row[4]))


def read_rows(video_ids: Iterable[int]) -> dict[int, Row]:
    """Rows by video; absent ones are left out."""
    return {
        row[0]: Row(*row[1:])
        for part in parts(video_ids)
        for row in Video.objects.filter(id__in=part).values_list(
            "id", "like_count", "view_count", "owner_id", "duration"
        )
    }


# What the flush writes


def newest_batch(shard: int) -> tuple[int, int]:
    """The highest batch number that the database knows of a shard, and of any shard; 0 where there is none."""
    newest = _newest_batches()
    return newest.get(shard, 0), max(newest.values(), default=0)


def _newest_batches() -> dict[int, int]:
    # In this form the index on (shard, number) answers with one step a shard, however many batches are kept.
    return dict(FlushBatch.objects.order_by().values_list("shard").annotate(Max("number")))


def counts_of(video_id: int) -> tuple[int, int] | None:
    """Likes and views in a video's row; None: it is gone."""
    return Video.objects.filter(id=video_id).values_list("like_count", "view_count").first()


def has_one_writer() -> bool:
    """Whether the database lets but one transaction write at a time, as SQLite does."""
    return connection.vendor == "sqlite"


def open_batch(*, shard: int, number: int, claimed_ms: int, fields: int, rewound: bool) -> None:
    """Record a claimed batch, unless an interrupted run has done so."""
    FlushBatch.objects.get_or_create(
        shard=shard,
        number=number,
        defaults={"claimed_at": _moment(claimed_ms), "fields": fields, "rewound": rewound},
    )


def finish_batch(*, shard: int, number: int, applied: int, repeated: int, dropped: int, rejected: int) -> None:
    """Record what became of a batch's fields. May be said twice: the figures are the same."""
    FlushBatch.objects.filter(shard=shard, number=number, finished_at=None).update(
        finished_at=datetime.now(UTC), applied=applied, repeated=repeated, dropped=dropped, rejected=rejected
    )


@contextlib.contextmanager
def flush_session(after_each: Callable[[], None] | None = None) -> Iterator[None]:
    """The settings of a flusher's database session: isolation, and a lock wait of seconds; put back afterwards.

    `after_each()` is called after each statement, also within transactions; not where these keep all others out.
    """
    if connection.vendor != "mysql":
        yield
        return
    connection.ensure_connection()
    # Session settings are lost with the connection, which Django replaces when it has failed: both are set for each
    # run.
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@innodb_lock_wait_timeout")
        (lock_wait,) = cursor.fetchone()
        cursor.execute(f"SET SESSION TRANSACTION ISOLATION LEVEL {conf.FLUSH_ISOLATION_LEVEL.upper()}")
        cursor.execute("SET SESSION innodb_lock_wait_timeout = %s", [conf.FLUSH_LOCK_WAIT_SECONDS])
    try:
        with connection.execute_wrapper(_followed_by(after_each)) if after_each else contextlib.nullcontext():
            yield
    finally:
        with contextlib.suppress(Exception), connection.cursor() as cursor:
            isolation = getattr(connection, "isolation_level", None) or "repeatable read"
            cursor.execute(f"SET SESSION TRANSACTION ISOLATION LEVEL {isolation.upper()}")
            cursor.execute("SET SESSION innodb_lock_wait_timeout = %s", [lock_wait])


def _followed_by(after_each: Callable[[], None]) -> Callable[..., Any]:
    def run(execute: Callable[..., Any], *statement: Any) -> Any:
        result = execute(*statement)
        after_each()
        return result

    return run


def apply(
    *, shard: int, number: int, changes: Mapping[int, Changes], commit: bool = True
) -> tuple[dict[int, Outcome], Sums]:
    """Take a chunk of batch `number` into the rows, in one transaction; again changes nothing.

    Returns each video's outcome, with the counts that the transaction left in the rows, and what it changed.
    `commit=False` tries it out. Raises django.db errors: `is_data_fault` tells those that are a field's own fault.
    """

    # Nearly all users are there: the rows' foreign keys ask anyway, and only when one fails are users looked for.
    look = not commit

    def take_in() -> tuple[dict[int, Outcome], Sums]:
        nonlocal look
        looks, look = look, True
        with transaction.atomic(durable=True):
            outcomes, sums = _take_in(changes, number, look_for_users=looks)
            if sums != Sums():
                sql.add_sums(shard, number, sums)
            if not commit:
                transaction.set_rollback(True)
        return outcomes, sums

    return _again(take_in)


def is_data_fault(error: Exception) -> bool:
    """Whether a field's value made the database fail, so that it fails again.

    All else is the database's own trouble.
    """
    if isinstance(error, OperationalError):
        return error.args[:1] == (OUT_OF_RANGE,)
    return isinstance(error, DataError | IntegrityError | OverflowError)


# What is written outside a batch: each leaves a note


def write_direct(changes: Mapping[int, Changes]) -> dict[int, Outcome]:
    """Likes and views straight into the rows, while Redis is away.

    A note for each like, and one for a video's views, lets the flush set live counts anew.
    """

    def write() -> dict[int, Outcome]:
        with transaction.atomic(durable=True):
            outcomes, _ = _take_in(changes, None, look_for_users=True)
            # One note a video does for all of its views: it cannot be settled while the video's row is locked here.
            viewed = [video_id for video_id, change in changes.items() if change.views]
            noted = {
                video_id
                for part in parts(viewed)
                for video_id in StaleLive.objects.filter(video_id__in=part)
                .values_list("video_id", flat=True)
                .distinct()
            }
            _note(
                StaleLive(video_id=video_id)
                for video_id in viewed
                if outcomes[video_id].counts is not None and video_id not in noted
            )
            _note(
                StaleLive(video_id=video_id, user=like.user_id, written_ms=like.at_ms)
                for video_id, change in changes.items()
                for like in change.likes
                if outcomes[video_id].counts is not None and like.user_id not in outcomes[video_id].dropped
            )
        return outcomes

    return _again(write)


def forget_user(user_id: int, *, at_ms: int) -> None:
    """Take a user's likes out of rows and counts; in the transaction in which the user is deleted."""
    with transaction.atomic():
        liked = VideoLike.objects.filter(user_id=user_id).order_by("video_id").values_list("video_id", flat=True)
        sql.lock_videos(list(liked))
        # From here on no flusher can add a like of this user: its foreign key waits for this lock, then fails.
        list(get_user_model()._default_manager.select_for_update().filter(pk=user_id).values_list("pk"))
        video_ids = list(liked.all())
        VideoLike.objects.filter(user_id=user_id).delete()
        hour = at_ms // (HOUR_SECONDS * 1000)
        for part in parts(video_ids):
            Video.objects.filter(id__in=part).update(like_count=F("like_count") - 1)
            sql.add_hours({(video_id, hour): (-1, 0) for video_id in part})
        _note(StaleLive(video_id=video_id, user=user_id, written_ms=at_ms) for video_id in video_ids)


def forget_video(video_id: int) -> None:
    """Lock and note a video that is about to be deleted, in the transaction in which it is."""
    with transaction.atomic():
        sql.lock_videos([video_id])  # before its like rows, as the flush takes them
        _note([StaleLive(video_id=video_id)])


def note_stale(video_id: int) -> None:
    """Note that a video's owner or duration was edited."""
    _note([StaleLive(video_id=video_id)])


def stale_videos(shard: int, shards: int) -> list[int]:
    """Videos of a shard that have notes."""
    video_ids = StaleLive.objects.order_by("video_id").values_list("video_id", flat=True).distinct()
    return [video_id for video_id in video_ids if video_id % shards == shard]


def settle(video_id: int, set_live: Callable[[Row | None, Sequence[Wished]], bool]) -> bool:
    """Hold the video's row lock, hand its row (None: it is gone) and the noted likes to `set_live`, delete the notes.

    The notes stay when `set_live` returns False.
    """

    def settle_once() -> bool:
        with transaction.atomic(durable=True):
            columns = ("like_count", "view_count", "owner_id", "duration")
            row = Video.objects.select_for_update().filter(id=video_id).values_list(*columns).first()
            notes = list(StaleLive.objects.filter(video_id=video_id).values_list("id", "user", "written_ms"))
            newest: dict[int, int] = {}
            for _, user_id, written_ms in notes:
                if user_id is not None:
                    newest[user_id] = max(written_ms, newest.get(user_id, 0))
            liked = {user_id for _, user_id in sql.existing_likes((video_id, user_id) for user_id in newest)}
            wishes = [Wished(user_id, user_id in liked, at) for user_id, at in newest.items()]
            done = set_live(None if row is None else Row(*row), wishes)
            if done:
                for part in parts(note[0] for note in notes):
                    StaleLive.objects.filter(id__in=part)._raw_delete(connection.alias)
        return done

    return _again(settle_once)


def recount(video_ids: Sequence[int], *, repair: bool) -> list[Difference]:
    """Compare `like_count` with the like rows of these videos under their locks; `repair` sets it."""

    def recount_once() -> list[Difference]:
        with transaction.atomic(durable=True):
            stored = {row.id: row.like_count for row in sql.lock_videos(video_ids).values()}
            counted = dict(
                VideoLike.objects.filter(video_id__in=list(stored))
                .values_list("video_id")
                .annotate(likes=Count("id"))
                .order_by()
            )
            found = [
                Difference(video_id, likes, counted.get(video_id, 0))
                for video_id, likes in stored.items()
                if likes != counted.get(video_id, 0)
            ]
            if repair:
                for difference in found:
                    Video.objects.filter(id=difference.video_id).update(like_count=difference.counted)
                _note(StaleLive(video_id=difference.video_id) for difference in found)
        return found

    return _again(recount_once)


def video_ids(after: int, limit: int) -> list[int]:
    """The next `limit` video ids after one."""
    return list(Video.objects.filter(id__gt=after).order_by("id").values_list("id", flat=True)[:limit])


def video_total() -> int:
    """How many videos there are."""
    return Video.objects.count()


# What health tells


class BatchFacts(NamedTuple):
    """The flush as the database knows it."""

    last_finished: datetime | None
    rewound: int
    stale_notes: int
    stuck: frozenset[int]  # shards whose newest batch was claimed before the given moment and is not finished
    lively: frozenset[int]  # shards of which a batch was finished since


def batch_facts(since: datetime) -> BatchFacts:
    """When a batch was last finished, how many were rewound, how many notes wait; and how each shard does."""
    unfinished = FlushBatch.objects.filter(finished_at=None, claimed_at__lt=since).values_list("shard", "number")
    newest = _newest_batches() if unfinished else {}
    lively = FlushBatch.objects.filter(finished_at__gte=since).values_list("shard", flat=True).distinct()
    return BatchFacts(
        FlushBatch.objects.aggregate(last=Max("finished_at"))["last"],
        FlushBatch.objects.filter(rewound=True).count(),
        StaleLive.objects.count(),
        frozenset(shard for shard, number in unfinished if number == newest[shard]),
        frozenset(lively),
    )


# Housekeeping


def prune(*, now: datetime) -> None:
    """Delete old finished batches, but each shard's newest, and roll old hours up into their day's first."""
    floor = _newest_batches()
    old = FlushBatch.objects.filter(finished_at__lt=now - timedelta(days=conf.BATCHES_DAYS))
    gone = [
        pk for pk, shard, number in old.values_list("id", "shard", "number")[:STATEMENT_ROWS] if number < floor[shard]
    ]
    FlushBatch.objects.filter(id__in=gone).delete()
    _roll_up_hours(now)


def _roll_up_hours(now: datetime) -> None:
    """Some of the hours that are old enough, in one transaction: what is left waits for the next time."""
    horizon = (now - timedelta(days=conf.HOURS_DAYS)).replace(hour=0, minute=0, second=0, microsecond=0)
    loose = VideoHour.objects.filter(hour__lt=horizon).exclude(hour__hour=0).order_by("hour")
    chosen = dict(loose.values_list("id", "video_id")[:STATEMENT_ROWS])
    if not chosen:
        return
    with transaction.atomic(durable=True):
        sql.lock_videos(set(chosen.values()))
        days: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
        rows = VideoHour.objects.filter(id__in=chosen)
        for video_id, hour, likes, views in rows.values_list("video_id", "hour", "likes", "views"):
            day = video_id, int(hour.timestamp()) // (24 * HOUR_SECONDS) * 24
            days[day][0] += likes
            days[day][1] += views
        rows.delete()
        sql.add_hours(days)


# Inside a transaction


def _take_in(
    changes: Mapping[int, Changes], number: int | None, *, look_for_users: bool
) -> tuple[dict[int, Outcome], Sums]:
    """Bring changes into the rows; those of a batch (`number`) only where the row has not taken it in before.

    Without `look_for_users` a new like of a user who is gone raises IntegrityError, on SQLite with the commit.
    """
    rows = sql.lock_videos(list(changes))
    outcomes: dict[int, Outcome] = {}
    fresh: dict[int, Changes] = {}
    for video_id, change in changes.items():
        row = rows.get(video_id)
        if row is None:
            outcomes[video_id] = Outcome(None)
        elif number is not None and row.flushed_batch >= number:
            outcomes[video_id] = Outcome((row.like_count, row.view_count), repeated=True)
        else:
            fresh[video_id] = change
    if not fresh:
        return outcomes, Sums()

    superseded = _newer_notes(fresh) if number is not None else {}
    found = _compare_likes(fresh, superseded, look_for_users=look_for_users)
    gains, hours = _gains(fresh, found)
    for video_id, (likes, views) in gains.items():
        counts = rows[video_id].like_count + likes, rows[video_id].view_count + views
        if max(counts) > BIGINT_MAX:  # SQLite would make it a float in silence
            raise OverflowError(f"The counts of video {video_id} would be {counts}")
        outcomes[video_id] = Outcome(counts)
    for video_id, users in found.dropped.items():
        outcomes[video_id].dropped = frozenset(users)
    sql.insert_likes((video_id, like.user_id, like.at_ms) for video_id, like in found.added)
    sql.delete_likes(found.removed_ids)
    sql.add_counts(gains, number)
    sql.add_hours(hours)
    return outcomes, Sums(len(fresh), len(found.added), len(found.removed), sum(views for _, views in gains.values()))


def _gains(
    fresh: Mapping[int, Changes], found: _Difference
) -> tuple[dict[int, list[int]], dict[tuple[int, int], list[int]]]:
    """What counts and hours gain, as [likes, views], by video and by (video, hours since 1970)."""
    gains = {video_id: [0, 0] for video_id in fresh}
    hours: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
    for step, changed in ((1, found.added), (-1, found.removed)):
        for video_id, like in changed:
            gains[video_id][0] += step
            hours[video_id, like.at_ms // (HOUR_SECONDS * 1000)][0] += step
    for video_id, change in fresh.items():
        for view in change.views:
            gains[video_id][1] += view.views
            hours[video_id, view.hour][1] += view.views
    return gains, hours


def _newer_notes(fresh: Mapping[int, Changes]) -> dict[tuple[int, int], int]:
    """When likes were written outside a batch: an older pending wish must not undo a newer one."""
    notes: dict[tuple[int, int], int] = {}
    if not sql.has_like_notes():
        return notes
    for part in parts(fresh):
        found = StaleLive.objects.filter(video_id__in=part, user__isnull=False)
        for video_id, user_id, written_ms in found.values_list("video_id", "user", "written_ms"):
            if user_id is not None:
                notes[video_id, user_id] = max(written_ms, notes.get((video_id, user_id), 0))
    return notes


_Likes: TypeAlias = list[tuple[int, LikeChange]]  # with the video of each


class _Difference(NamedTuple):
    """What lies between the wishes and the rows."""

    added: _Likes
    removed: _Likes
    removed_ids: list[int]  # of like rows
    dropped: Mapping[int, set[int]]  # by video, users who are gone


def _compare_likes(
    fresh: Mapping[int, Changes], superseded: Mapping[tuple[int, int], int], *, look_for_users: bool
) -> _Difference:
    wished = {(video_id, like.user_id): like for video_id, change in fresh.items() for like in change.likes}
    existing = sql.existing_likes(wished)
    # A wish that changes no row has no foreign key that would ask.
    asked = {
        user_id
        for (video_id, user_id), like in wished.items()
        if (video_id, user_id) not in existing and (look_for_users or not like.liked)
    }
    gone = asked - sql.existing_users(asked)
    found = _Difference([], [], [], defaultdict(set))
    for (video_id, user_id), like in wished.items():
        row = existing.get((video_id, user_id))
        if row is None and user_id in gone:
            found.dropped[video_id].add(user_id)
        elif superseded.get((video_id, user_id), -1) >= like.at_ms:
            continue
        elif like.liked and row is None:
            found.added.append((video_id, like))
        elif not like.liked and row is not None:
            found.removed.append((video_id, like))
            found.removed_ids.append(row)
    found.added.sort(key=lambda pair: (pair[1].at_ms, pair[0]))  # so that ids of like rows follow time
    return found


def _note(notes: Iterable[StaleLive]) -> None:
    StaleLive.objects.bulk_create(notes, batch_size=STATEMENT_ROWS)


def _again(transact: Callable[[], T]) -> T:
    """Run a transaction, and again when it met a deadlock, a lock timeout or a row that has just gone; bounded."""
    for attempt in range(TRIES):
        try:
            return transact()
        except (OperationalError, IntegrityError) as error:
            if attempt == TRIES - 1 or not _passes(error) or connection.in_atomic_block:
                raise
            logger.debug("Again after %s", error)
            time.sleep(random.uniform(0, 0.01 * 2**attempt))  # spreads writers
    raise AssertionError("unreachable")


def _passes(error: Exception) -> bool:
    if isinstance(error, IntegrityError):
        return True
    return error.args[:1] in {(DEADLOCK,), (LOCK_TIMEOUT,)} or "database is locked" in str(error)


def _moment(unix_ms: int) -> datetime:
    return datetime.fromtimestamp(unix_ms / 1000, UTC)
