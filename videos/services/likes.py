"""Likes and dislikes: one, who likes, what a user likes. The lists contain the user's last likes and unlikes at once.

A wish is a state, so it is safe to repeat it, and to write it to Redis and to the rows.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from videos import counters
from videos.changes import LIKE, NOTHING, Changes, MarkChange, moment
from videos.fields import State
from videos.ledger import lists, reads
from videos.ledger.reads import Window
from videos.ledger.sql import parts
from videos.services.database import SCRIPT_TRIES, database, write_direct
from videos.services.outcomes import LikeResult, ListedLike, ListedLikes, Unavailable, VideoNotFound
from videos.services.reading import read_counts


def set_like(*, video_id: int, user_id: int, liked: bool) -> LikeResult:
    """Like a video, or take the user's mark back. See `set_mark`."""
    return set_mark(video_id=video_id, user_id=user_id, value=LIKE if liked else NOTHING)


def set_mark(*, video_id: int, user_id: int, value: int) -> LikeResult:
    """Set a user's mark on a video: LIKE, DISLIKE, or NOTHING, which takes back either. Repeating it changes nothing.

    A mark is one state, so a like replaces a dislike. Raises VideoNotFound, UserNotFound, Unavailable.
    """
    try:
        done = counters.set_mark(video_id=video_id, user_id=user_id, value=value)
        for _ in range(SCRIPT_TRIES):
            if isinstance(done, counters.Marked):
                break
            with database():
                known = reads.read_facts_and_state(video_id, user_id)
            if known is None:
                raise VideoNotFound
            facts, state = known
            done = counters.set_mark(
                video_id=video_id,
                user_id=user_id,
                value=value,
                facts=facts if done.facts else None,
                state=state if done.state else None,
                version=done.version,
            )
        if isinstance(done, counters.Marked):
            return LikeResult(video_id, value, done.totals)
    except counters.CountersUnavailable:
        # Redis may have taken the wish too, but not later than now. A wish is a state, so writing it twice is safe.
        totals = write_direct(video_id, Changes([MarkChange(user_id, value, counters.now_ms())]))
        return LikeResult(video_id, value, totals, stored=True)
    raise Unavailable


def get_like(*, video_id: int, user_id: int | None) -> LikeResult:
    """A user's mark on a video, as of the user's last wish. Raises VideoNotFound, Unavailable."""
    counts = read_counts(video_ids=[video_id], user_id=user_id)
    count = counts.by_video.get(video_id)
    if count is None:
        raise VideoNotFound
    return LikeResult(video_id, count.mark, count.totals, counts.stored)


def recent_marks(*, user_id: int) -> tuple[dict[int, State], bool]:
    """The user's marks that wait for the flush, by video; True if they are unknown, because Redis is away."""
    try:
        noted = counters.recent(user_id)
        found = counters.lookup(noted, user_id)
    except counters.CountersUnavailable:
        return {}, True
    states = {video_id: live.state for video_id, live in found.items() if live.state is not None}
    return {video_id: State(value, at_ms or noted[video_id]) for video_id, (value, at_ms) in states.items()}, False


def likers(*, video_id: int, user_id: int | None, window: Window) -> ListedLikes:
    """The likes of a video, ordered by time and user; the ids are those of users. Raises VideoNotFound, Unavailable.

    They are `stored` ones and the user's own where Redis is away, or where too many changes wait in it.
    """
    try:
        waiting = counters.waiting_marks(video_id)
        marks, away = waiting or {}, waiting is None
        own = None if user_id is None else counters.lookup([video_id], user_id)[video_id].state
        if own is not None and user_id is not None:
            marks[user_id] = own
    except counters.CountersUnavailable:
        marks, away = {}, True
    with database():
        if not reads.read_facts([video_id]):
            raise VideoNotFound
        added = _added(marks, window, lambda user_ids: reads.likers_among(video_id, user_ids))
        rows = lists.likes_of_video(video_id, window, without=_taken_back(marks))
    return ListedLikes(_merged(rows, added, window), away)


def liked_videos(*, user_id: int, window: Window) -> ListedLikes:
    """The user's likes, ordered by time and video; the ids are those of videos. Raises Unavailable."""
    marks, away = recent_marks(user_id=user_id)
    with database():
        added = _added(marks, window, lambda video_ids: reads.liked_among(video_ids, user_id))
        rows = lists.likes_of_user(user_id, window, without=_taken_back(marks))
    return ListedLikes(_merged(rows, added, window), away)


def _taken_back(marks: Mapping[int, State]) -> list[int]:
    return [one for one, state in marks.items() if state.value != LIKE]


def _added(
    marks: Mapping[int, State], window: Window, known_among: Callable[[list[int]], set[int]]
) -> list[ListedLike]:
    """The first likes of the window among these marks that are not rows yet."""
    _, falling, beyond, most = window
    likes = [ListedLike(moment(state.at_ms), one) for one, state in marks.items() if state.value == LIKE]
    if beyond is not None:
        likes = [like for like in likes if (like < beyond if falling else like > beyond)]
    likes.sort(reverse=falling)
    added: list[ListedLike] = []
    for part in parts(likes, most):
        known = known_among([like.id for like in part])
        added += [like for like in part if like.id not in known]
        if len(added) >= most:
            break
    return added


def _merged(rows: Sequence[tuple[datetime, int]], added: list[ListedLike], window: Window) -> list[ListedLike]:
    """The rows, with the likes that were no rows when `added` was read."""
    likes = [ListedLike(*row) for row in rows]
    known = {like.id for like in likes}
    return sorted([*likes, *(like for like in added if like.id not in known)], reverse=window.falling)[: window.most]
