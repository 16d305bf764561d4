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

    video: int
    liked: bool | None  # None for an anonymous reader
    likes: int
    stored: bool = False


@dataclass(frozen=True, slots=True)
class ViewEvent:
    """Somebody watched a video."""

    video: int
    viewer: str  # stable for one viewer, at most 64 characters; never an address in clear
    user: int | None = None  # the viewer's user id where signed in
    watched: float | None = None  # seconds; None where the player does not tell
    at_ms: int | None = None  # Unix milliseconds; None is now
    address: str | None = None  # a keyed hash of the client's address; None is exempt from the cap per address
    bot: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """What became of a view. `reason`: new, seen, bot, short, owner or address; only `new` counts."""

    video: int
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

    video: int
    liked: bool
    at_ms: int


@dataclass(frozen=True, slots=True)
class RecentLikes:
    """Likes and unlikes that may not be in the rows yet. `stored`: none are known, Redis being away."""

    likes: Sequence[RecentLike] = ()
    stored: bool = False


def set_like(*, video: int, user: int, liked: bool) -> Like:
    """Make `user` like `video`, or not; repeats change nothing. Raises VideoNotFound, UserNotFound, Unavailable."""
    at_ms = counters.now_ms()
    try:
        done = counters.like(video=video, user=user, liked=liked, at_ms=at_ms)
        for _ in range(TRIES):
            if isinstance(done, counters.Liked):
                return Like(video, liked, done.likes)
            row, state = _read_row(video, user)
            base = counters.Base(*row) if done.base else None
            done = counters.like(video=video, user=user, liked=liked, at_ms=at_ms, base=base, state=state)
    except counters.CountersUnavailable:
        # A wish is a state, so it is safe to write it though Redis may have taken it too.
        outcome = _write_direct(video, Changes([LikeChange(user, liked, at_ms)]))
        return Like(video, liked, outcome[0], stored=True)
    raise Unavailable


def get_like(*, video: int, user: int | None) -> Like:
    """Whether `user` likes `video`, own last write included. Raises VideoNotFound, Unavailable."""
    counts = read_counts(videos=[video], user=user)
    count = counts.by_video.get(video)
    if count is None:
        raise VideoNotFound
    return Like(video, count.liked, count.likes, counts.stored)


def record_view(*, event: ViewEvent) -> View:
    """Count one view, or say why not. Raises VideoNotFound, Unavailable."""
    taken = [_event(event)]
    try:
        ((reason, views),) = counters.view(taken)
        for _ in range(TRIES):
            if reason:
                return View(event.video, reason == "new", reason, views)
            row, _ = _read_row(event.video)
            ((reason, views),) = counters.view(taken, {event.video: counters.Base(*row)})
    except counters.CountersUnavailable as error:
        if error.uncertain:
            raise Unavailable from error  # it may be counted: the client's repeat will tell, as `seen`
        row, _ = _read_row(event.video)
        reason = _judge_direct(event, row)
        if reason != "new":
            return View(event.video, False, reason, row.views, stored=True)
        counts = _write_direct(event.video, Changes(views=[ViewChange(taken[0].hour, 1)]))
        return View(event.video, True, reason, counts[1], stored=True)
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
                rows = ledger.read_rows({event.video for event in left})
            reasons["absent"] += sum(event.video not in rows for event in left)
            left = [event for event in left if event.video in rows]
            if not left:
                break
            bases = {video: counters.Base(*row) for video, row in rows.items()}
        else:
            raise Unavailable
    except counters.CountersUnavailable as error:
        # Those of the first round trips may be counted: sent again they are `seen`, those written to the rows were not.
        if error.uncertain or len(left) < len(events):
            raise Unavailable from error
        return _record_views_direct(events)
    counted = reasons.pop("new", 0)
    return ViewSums(counted, {reason: number for reason, number in sorted(reasons.items()) if number})


def read_counts(*, videos: Iterable[int], user: int | None) -> Counts:
    """The numbers of these videos now: at most one query. Raises Unavailable when what is needed is away."""
    chosen = list(dict.fromkeys(videos))
    found, stored = _read_live(chosen, user)
    absent = [video for video in chosen if found.get(video, _UNKNOWN).likes is None]
    if not absent:
        return _counts(chosen, {}, found, user=user, stored=stored)
    with _database():
        read = reads.read_counts({*absent, *_unknown(chosen, found, user)}, user)
    there = [video for video in chosen if video in read or video not in absent]
    rows = {video: (likes, views) for video, (likes, views, _) in read.items()}
    liked = {video for video, (*_, state) in read.items() if state}
    return _counts(there, rows, found, user=user, stored=stored, liked=liked)


def overlay_rows(*, rows: Iterable[VideoRow], user: int | None) -> Counts:
    """The numbers now of videos whose rows the caller has just read: at most one query. Raises Unavailable."""
    return overlay_counts(stored={row.id: (row.like_count, row.view_count) for row in rows}, user=user)


def overlay_counts(*, stored: Mapping[int, tuple[int, int]], user: int | None) -> Counts:
    """The same for rows that were read as `{id: (likes, views)}`."""
    found, from_rows = _read_live(list(stored), user)
    return _counts(list(stored), stored, found, user=user, stored=from_rows)


def nearest_videos(*, by: str, falling: bool, beyond: tuple[Any, int] | None, most: int) -> list[VideoRow]:
    """The first rows of videos in the order of (`by`, id), or the first beyond a value and id. Raises Unavailable."""
    with _database():
        return reads.nearest_videos(by=by, falling=falling, beyond=beyond, most=most)


def read_videos(*, videos: Iterable[int]) -> dict[int, VideoRow]:
    """Rows by video; absent ones are left out. Raises Unavailable."""
    with _database():
        return reads.read_videos(videos)


def recent_likes(*, user: int) -> RecentLikes:
    """The user's likes and unlikes of the last two flush intervals, newest first."""
    try:
        hints = counters.recent(user)
        found = counters.read(hints, user)
    except counters.CountersUnavailable:
        return RecentLikes(stored=True)
    recent = [
        RecentLike(video, live.liked, live.wished_ms or hints[video])
        for video, live in found.items()
        if live.liked is not None
    ]
    return RecentLikes(sorted(recent, key=lambda like: (like.at_ms, like.video), reverse=True))


def forget_user(*, user: int) -> None:
    """Take the likes of a user who is being deleted out of all counts. Call it inside the deleting transaction."""
    ledger.forget_user(user, at_ms=counters.now_ms())


def forget_video(*, video: int) -> None:
    """Remove what Redis shows of a video that is being deleted. Call it inside the deleting transaction."""
    ledger.forget_video(video)
    transaction.on_commit(lambda: _soon(lambda: counters.forget(video)))


def refresh_video(*, video: int) -> None:
    """Take an edited owner or duration into the rules of views. Call it inside the editing transaction."""
    ledger.note_stale(video)

    def refresh() -> None:
        read = ledger.read_row(video)
        if read is not None:
            counters.refresh(video=video, owner=read[0].owner, duration=read[0].duration)

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


def _read_row(video: int, user: int | None = None) -> tuple[ledger.Row, bool]:
    with _database():
        found = ledger.read_row(video, user)
    if found is None:
        raise VideoNotFound
    return found


def _write_direct(video: int, changes: Changes) -> tuple[int, int]:
    with _database():
        outcome = ledger.write_direct({video: changes})[video]
    if outcome.counts is None:
        raise VideoNotFound
    if outcome.dropped:
        raise UserNotFound
    return outcome.counts


def _event(event: ViewEvent) -> counters.Event:
    at_ms = counters.now_ms() if event.at_ms is None else event.at_ms
    hour = at_ms // HOUR_MS
    return counters.Event(event.video, event.viewer, hour, event.user, event.watched, event.bot, event.address)


def _judge_direct(event: ViewEvent, row: ledger.Row) -> str:
    """The rules of views but those that need Redis: seen, and the limit per address."""
    if event.bot:
        return "bot"
    if event.user is not None and event.user == row.owner:
        return "owner"
    enough = conf.VIEW_MIN_WATCHED_SECONDS
    if row.duration:
        enough = min(enough, row.duration / 2)
    return "short" if event.watched is not None and event.watched < enough else "new"


def _record_views_direct(events: Sequence[ViewEvent]) -> ViewSums:
    with _database():
        rows = ledger.read_rows({event.video for event in events})
        reasons: Counter[str] = Counter()
        views: Counter[tuple[int, int]] = Counter()
        for event in events:
            row = rows.get(event.video)
            reason = "absent" if row is None else _judge_direct(event, row)
            reasons[reason] += 1
            if reason == "new":
                views[event.video, _event(event).hour] += 1
        changes: dict[int, Changes] = {}
        for (video, hour), number in views.items():
            changes.setdefault(video, Changes()).add(ViewChange(hour, number))
        if changes:
            ledger.write_direct(changes)
    counted = reasons.pop("new", 0)
    return ViewSums(counted, dict(sorted(reasons.items())), stored=True)


def _read_live(videos: Sequence[int], user: int | None) -> tuple[dict[int, counters.Live], bool]:
    try:
        return counters.read(videos, user), False
    except counters.CountersUnavailable:
        return {}, True


def _unknown(videos: Iterable[int], found: Mapping[int, counters.Live], user: int | None) -> list[int]:
    """Those of which Redis does not know whether the user likes them."""
    return [] if user is None else [video for video in videos if found.get(video, _UNKNOWN).liked is None]


def _counts(
    videos: Sequence[int],
    rows: Mapping[int, tuple[int, int]],
    found: Mapping[int, counters.Live],
    *,
    user: int | None,
    stored: bool,
    liked: Collection[int] | None = None,  # None: the rows of likes are not read yet
) -> Counts:
    if liked is None:
        liked = ()
        unknown = _unknown(videos, found, user)
        if unknown and user is not None:
            with _database():
                liked = reads.liked_among(unknown, user)
    by_video = {}
    for video in videos:
        likes, views, state, _ = found.get(video, _UNKNOWN)
        if likes is None or views is None:
            likes, views = rows.get(video, (0, 0))
        if user is None:
            state = None
        elif state is None:
            state = video in liked
        by_video[video] = Count(likes, views, state)
    return Counts(by_video, stored)
