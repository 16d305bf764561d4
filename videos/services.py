"""What a like, an unlike and a view mean. Picks Redis, or the ledger when Redis is away."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db import InterfaceError, OperationalError, close_old_connections, transaction

from videos import counters, ledger
from videos.conf import conf
from videos.ledger import Changes, LikeChange, ViewChange, reads

VideoRow = reads.VideoRow

logger = logging.getLogger(__name__)

HOUR_MS = 3_600_000
_UNKNOWN = counters.Live(None, None, None, 0)  # what Redis knows of nothing
TRIES = 5  # of a script that lacked something, which is read and given to it in between


class VideoNotFound(Exception):
    """No such video."""


class UserNotFound(Exception):
    """No such user; a token may outlive its user."""


class Unavailable(Exception):
    """Counts cannot be taken or read just now; try again in a moment."""


@dataclass(frozen=True, slots=True)
class Like:
    """What a user wished of a video, and the video's number of likes. `stored`: from the rows, Redis being away."""

    video_id: int
    liked: bool | None  # None for an anonymous reader
    likes: int
    stored: bool = False


@dataclass(frozen=True, slots=True)
class ViewEvent:
    """Somebody watched a video."""

    video_id: int
    viewer: str  # stable for one viewer, at most 64 characters; never an address in clear
    user_id: int | None = None  # the viewer's user id where signed in
    watched: float | None = None  # seconds; None where the player does not tell
    at_ms: int | None = None  # Unix milliseconds; None is now
    address: str | None = None  # a keyed hash of the client's address; None is exempt from the cap per address
    bot: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """What became of a view. `reason`: new, seen, bot, short, owner or address; only `new` counts."""

    video_id: int
    counted: bool
    reason: str
    views: int
    stored: bool = False


@dataclass(frozen=True, slots=True)
class ViewSums:
    """What became of a batch of views; `ignored` by reason, `absent` among them for videos that do not exist."""

    counted: int
    ignored: Mapping[str, int]
    stored: bool = False


class Count(NamedTuple):
    """The numbers of one video; `liked` is None for an anonymous reader."""

    likes: int
    views: int
    liked: bool | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers by video id; absent videos are left out. `stored`: from the rows, Redis being away."""

    by_video: Mapping[int, Count]
    stored: bool = False


@dataclass(frozen=True, slots=True)
class RecentLike:
    """A like or unlike that may not be in the rows yet."""

    video_id: int
    liked: bool
    at_ms: int


@dataclass(frozen=True, slots=True)
class RecentLikes:
    """Likes and unlikes that may not be in the rows yet. `stored`: none are known, Redis being away."""

    likes: Sequence[RecentLike] = ()
    stored: bool = False


def set_like(*, video_id: int, user_id: int, liked: bool) -> Like:
    """Make `user` like `video`, or not; repeats change nothing. Raises VideoNotFound, UserNotFound, Unavailable."""
    at_ms = counters.now_ms()
    try:
        done = counters.like(video_id=video_id, user_id=user_id, liked=liked, at_ms=at_ms)
        for _ in range(TRIES):
            if isinstance(done, counters.Liked):
                return Like(video_id, liked, done.likes)
            row, state = _read_row(video_id, user_id)
            base = counters.Base(*row) if done.base else None
            done = counters.like(video_id=video_id, user_id=user_id, liked=liked, at_ms=at_ms, base=base, state=state)
    except counters.CountersUnavailable:
        # A wish is a state, so it is safe to write it though Redis may have taken it too.
        outcome = _write_direct(video_id, Changes([LikeChange(user_id, liked, at_ms)]))
        return Like(video_id, liked, outcome[0], stored=True)
    raise Unavailable


def get_like(*, video_id: int, user_id: int | None) -> Like:
    """Whether `user` likes `video`, own last write included. Raises VideoNotFound, Unavailable."""
    counts = read_counts(video_ids=[video_id], user_id=user_id)
    count = counts.by_video.get(video_id)
    if count is None:
        raise VideoNotFound
    return Like(video_id, count.liked, count.likes, counts.stored)


def record_view(*, event: ViewEvent) -> View:
    """Count one view, or say why not. Raises VideoNotFound, Unavailable."""
    taken = [_event(event)]
    try:
        ((reason, views),) = counters.view(taken)
        for _ in range(TRIES):
            if reason:
                return View(event.video_id, reason == "new", reason, views)
            row, _ = _read_row(event.video_id)
            ((reason, views),) = counters.view(taken, {event.video_id: counters.Base(*row)})
    except counters.CountersUnavailable as error:
        if error.uncertain:
            raise Unavailable from error  # it may be counted: the client's repeat will tell, as `seen`
        row, _ = _read_row(event.video_id)
        reason = _judge_direct(event, row)
        if reason != "new":
            return View(event.video_id, False, reason, row.views, stored=True)
        counts = _write_direct(event.video_id, Changes(views=[ViewChange(taken[0].hour, 1)]))
        return View(event.video_id, True, reason, counts[1], stored=True)
    raise Unavailable


def record_views(*, events: Sequence[ViewEvent]) -> ViewSums:
    """Count a batch of views, in one round trip where all is warm.

    Raises Unavailable: sent again, what had counted is `seen`.
    """
    reasons: Counter[str] = Counter()
    left = [_event(event) for event in events]
    try:
        bases: dict[int, counters.Base] = {}
        for _ in range(TRIES):
            results = counters.view(left, bases)
            reasons.update(reason for reason, _ in results if reason)
            left = [event for event, (reason, _) in zip(left, results, strict=True) if not reason]
            if not left:
                break
            with _database():
                rows = ledger.read_rows({event.video_id for event in left})
            reasons["absent"] += sum(event.video_id not in rows for event in left)
            left = [event for event in left if event.video_id in rows]
            if not left:
                break
            bases = {video_id: counters.Base(*row) for video_id, row in rows.items()}
        else:
            raise Unavailable
    except counters.CountersUnavailable as error:
        # Those of the first round trips may be counted: sent again they are `seen`, those written to the rows were not.
        if error.uncertain or len(left) < len(events):
            raise Unavailable from error
        return _record_views_direct(events)
    counted = reasons.pop("new", 0)
    return ViewSums(counted, {reason: number for reason, number in sorted(reasons.items()) if number})


def read_counts(*, video_ids: Iterable[int], user_id: int | None) -> Counts:
    """The numbers of these videos now: at most one query. Raises Unavailable when what is needed is away."""
    chosen = list(dict.fromkeys(video_ids))
    found, stored = _read_live(chosen, user_id)
    absent = [video_id for video_id in chosen if found.get(video_id, _UNKNOWN).likes is None]
    if not absent:
        return _counts(chosen, {}, found, user_id=user_id, stored=stored)
    with _database():
        read = reads.read_counts({*absent, *_unknown(chosen, found, user_id)}, user_id)
    there = [video_id for video_id in chosen if video_id in read or video_id not in absent]
    rows = {video_id: (likes, views) for video_id, (likes, views, _) in read.items()}
    liked = {video_id for video_id, (*_, state) in read.items() if state}
    return _counts(there, rows, found, user_id=user_id, stored=stored, liked=liked)


def overlay_rows(*, rows: Iterable[VideoRow], user_id: int | None) -> Counts:
    """The numbers now of videos whose rows the caller has just read: at most one query. Raises Unavailable."""
    return overlay_counts(stored={row.id: (row.like_count, row.view_count) for row in rows}, user_id=user_id)


def overlay_counts(*, stored: Mapping[int, tuple[int, int]], user_id: int | None) -> Counts:
    """The same for rows that were read as `{id: (likes, views)}`."""
    found, from_rows = _read_live(list(stored), user_id)
    return _counts(list(stored), stored, found, user_id=user_id, stored=from_rows)


def nearest_videos(*, by: str, falling: bool, beyond: tuple[Any, int] | None, most: int) -> list[VideoRow]:
    """The first rows of videos in the order of (`by`, id), or the first beyond a value and id. Raises Unavailable."""
    with _database():
        return reads.nearest_videos(by=by, falling=falling, beyond=beyond, most=most)


def read_videos(*, video_ids: Iterable[int]) -> dict[int, VideoRow]:
    """Rows by video; absent ones are left out. Raises Unavailable."""
    with _database():
        return reads.read_videos(video_ids)


def recent_likes(*, user_id: int) -> RecentLikes:
    """The user's likes and unlikes of the last two flush intervals, newest first."""
    try:
        hints = counters.recent(user_id)
        found = counters.read(hints, user_id)
    except counters.CountersUnavailable:
        return RecentLikes(stored=True)
    recent = [
        RecentLike(video_id, live.liked, live.wished_ms or hints[video_id])
        for video_id, live in found.items()
        if live.liked is not None
    ]
    return RecentLikes(sorted(recent, key=lambda like: (like.at_ms, like.video_id), reverse=True))


def forget_user(*, user_id: int) -> None:
    """Take the likes of a user who is being deleted out of all counts. Call it inside the deleting transaction."""
    ledger.forget_user(user_id, at_ms=counters.now_ms())


def forget_video(*, video_id: int) -> None:
    """Remove what Redis shows of a video that is being deleted. Call it inside the deleting transaction."""
    ledger.forget_video(video_id)
    transaction.on_commit(lambda: _soon(lambda: counters.forget(video_id)))


def refresh_video(*, video_id: int) -> None:
    """Take an edited owner or duration into the rules of views. Call it inside the editing transaction."""
    ledger.note_stale(video_id)

    def refresh() -> None:
        read = ledger.read_row(video_id)
        if read is not None:
            counters.refresh(video_id=video_id, owner=read[0].owner, duration=read[0].duration)

    transaction.on_commit(lambda: _soon(refresh))


def _soon(act: Callable[[], None]) -> None:
    """Do at once what the flush does anyway when it settles the note; so an outage is no failure."""
    try:
        act()
    except (counters.CountersUnavailable, InterfaceError, OperationalError) as error:
        logger.warning("Left to the next flush: %s", error)


@contextlib.contextmanager
def _database() -> Iterator[None]:
    """The database's outages, in this room's words; with a connection that is neither broken nor too old.

    Django looks after that at each end of a request that its handler serves, which not every one is.
    """
    close_old_connections()
    try:
        yield
    except (InterfaceError, OperationalError) as error:
        raise Unavailable from error


def _read_row(video_id: int, user_id: int | None = None) -> tuple[ledger.Row, bool]:
    with _database():
        found = ledger.read_row(video_id, user_id)
    if found is None:
        raise VideoNotFound
    return found


def _write_direct(video_id: int, changes: Changes) -> tuple[int, int]:
    with _database():
        outcome = ledger.write_direct({video_id: changes})[video_id]
    if outcome.counts is None:
        raise VideoNotFound
    if outcome.dropped:
        raise UserNotFound
    return outcome.counts


def _event(event: ViewEvent) -> counters.Event:
    at_ms = counters.now_ms() if event.at_ms is None else event.at_ms
    hour = at_ms // HOUR_MS
    return counters.Event(event.video_id, event.viewer, hour, event.user_id, event.watched, event.bot, event.address)


def _judge_direct(event: ViewEvent, row: ledger.Row) -> str:
    """The rules of views but those that need Redis: seen, and the limit per address."""
    if event.bot:
        return "bot"
    if event.user_id is not None and event.user_id == row.owner:
        return "owner"
    enough = conf.VIEW_MIN_WATCHED_SECONDS
    if row.duration:
        enough = min(enough, row.duration / 2)
    return "short" if event.watched is not None and event.watched < enough else "new"


def _record_views_direct(events: Sequence[ViewEvent]) -> ViewSums:
    with _database():
        rows = ledger.read_rows({event.video_id for event in events})
        reasons: Counter[str] = Counter()
        views: Counter[tuple[int, int]] = Counter()
        for event in events:
            row = rows.get(event.video_id)
            reason = "absent" if row is None else _judge_direct(event, row)
            reasons[reason] += 1
            if reason == "new":
                views[event.video_id, _event(event).hour] += 1
        changes: dict[int, Changes] = {}
        for (video_id, hour), number in views.items():
            changes.setdefault(video_id, Changes()).add(ViewChange(hour, number))
        if changes:
            ledger.write_direct(changes)
    counted = reasons.pop("new", 0)
    return ViewSums(counted, dict(sorted(reasons.items())), stored=True)


def _read_live(video_ids: Sequence[int], user_id: int | None) -> tuple[dict[int, counters.Live], bool]:
    try:
        return counters.read(video_ids, user_id), False
    except counters.CountersUnavailable:
        return {}, True


def _unknown(video_ids: Iterable[int], found: Mapping[int, counters.Live], user_id: int | None) -> list[int]:
    """Those of which Redis does not know whether the user likes them."""
    return (
        [] if user_id is None else [video_id for video_id in video_ids if found.get(video_id, _UNKNOWN).liked is None]
    )


def _counts(
    video_ids: Sequence[int],
    rows: Mapping[int, tuple[int, int]],
    found: Mapping[int, counters.Live],
    *,
    user_id: int | None,
    stored: bool,
    liked: Collection[int] | None = None,  # None: the rows of likes are not read yet
) -> Counts:
    if liked is None:
        liked = ()
        unknown = _unknown(video_ids, found, user_id)
        if unknown and user_id is not None:
            with _database():
                liked = reads.liked_among(unknown, user_id)
    by_video = {}
    for video_id in video_ids:
        likes, views, state, _ = found.get(video_id, _UNKNOWN)
        if likes is None or views is None:
            likes, views = rows.get(video_id, (0, 0))
        if user_id is None:
            state = None
        elif state is None:
            state = video_id in liked
        by_video[video_id] = Count(likes, views, state)
    return Counts(by_video, stored)
