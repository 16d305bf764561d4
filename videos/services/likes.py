"""Likes: one, who likes a video, what a user likes. The lists contain the user's last likes and unlikes at once.

A wish is a state, so it is safe to repeat it, and to write it to Redis and to the rows.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from videos import counters
from videos.changes import LIKE, NOTHING, Changes, MarkChange, moment
from videos.fields import State
from videos.ledger import lists, reads
from videos.ledger.reads import Window
from videos.services.database import SCRIPT_TRIES, database, write_direct
from videos.services.outcomes import LikeResult, ListedLike, ListedLikes, Unavailable, VideoNotFound
from videos.services.reading import read_counts


def set_like(*, video_id: int, user_id: int, liked: bool) -> LikeResult:
    """Set or remove a user's like; repeating it changes nothing. Raises VideoNotFound, UserNotFound, Unavailable."""
    value = LIKE if liked else NOTHING
    try:
        done = counters.set_mark(video_id=video_id, user_id=user_id, value=value)
        for _ in range(SCRIPT_TRIES):
            if isinstance(done, counters.Marked):
                return LikeResult(video_id, liked, done.totals.likes)
            with database():
                known = reads.read_facts_and_state(video_id, user_id)
            if known is None:
                raise VideoNotFound
            facts, state = known
            done = counters.set_mark(
                video_id=video_id,
                user_id=user_id,
                value=value,
                facts=facts._replace(last=done.last) if done.facts else None,
                state=state if done.state else None,
            )
    except counters.CountersUnavailable:
        # Redis may have taken the wish too, but not later than now. A wish is a state, so writing it twice is safe.
        totals = write_direct(video_id, Changes([MarkChange(user_id, value, counters.now_ms())]))
        return LikeResult(video_id, liked, totals.likes, stored=True)
    raise Unavailable


def get_like(*, video_id: int, user_id: int | None) -> LikeResult:
    """Whether a user likes a video, as of the user's last wish. Raises VideoNotFound, Unavailable."""
    counts = read_counts(video_ids=[video_id], user_id=user_id)
    count = counts.by_video.get(video_id)
    if count is None:
        raise VideoNotFound
    return LikeResult(video_id, count.liked, count.totals.likes, counts.stored)


def recent_marks(*, user_id: int) -> tuple[dict[int, State], bool]:
    """The user's marks of the last two flush intervals, by video; True if they are unknown, because Redis is away."""
    try:
        noted = counters.recent(user_id)
        found = counters.lookup(noted, user_id)
    except counters.CountersUnavailable:
        return {}, True
    states = {video_id: live.state for video_id, live in found.items() if live.state is not None}
    return {video_id: State(value, at_ms or noted[video_id]) for video_id, (value, at_ms) in states.items()}, False


def likers(*, video_id: int, user_id: int | None, window: Window) -> ListedLikes:
    """The likes of a video, ordered by time and user; the ids are those of users. Raises VideoNotFound, Unavailable."""
    recent, away = ({}, False) if user_id is None else recent_marks(user_id=user_id)
    own = recent.get(video_id)
    added = {}
    with database():
        if not reads.read_facts([video_id]):
            raise VideoNotFound
        if own is not None and user_id is not None and own.value == LIKE:
            added = {} if reads.liked_among([video_id], user_id) else {user_id: moment(own.at_ms)}
        without = user_id if own is not None and own.value != LIKE else None
        rows = lists.likes_of_video(video_id, window, without=without)
    return ListedLikes(_merged(rows, added, window), away)


def liked_videos(*, user_id: int, window: Window) -> ListedLikes:
    """The user's likes, ordered by time and video; the ids are those of videos. Raises Unavailable."""
    recent, away = recent_marks(user_id=user_id)
    added = {video_id: moment(state.at_ms) for video_id, state in recent.items() if state.value == LIKE}
    unliked = [video_id for video_id, state in recent.items() if state.value != LIKE]
    with database():
        for known in reads.liked_among(added, user_id):
            del added[known]
        rows = lists.likes_of_user(user_id, window, without=unliked)
    return ListedLikes(_merged(rows, added, window), away)


def _merged(rows: Sequence[tuple[datetime, int]], added: Mapping[int, datetime], window: Window) -> list[ListedLike]:
    """The rows, with the likes among them that are not rows yet."""
    _, falling, beyond, most = window
    likes = [ListedLike(*row) for row in rows]
    for known_id, at in added.items():
        like = ListedLike(at, known_id)
        if beyond is None or (like < beyond if falling else like > beyond):
            likes.append(like)
    return sorted(likes, reverse=falling)[:most]
