"""Likes. A wish is a state, so it is safe to repeat it, and to write it to Redis and to the rows."""

from __future__ import annotations

from videos import counters
from videos.changes import LIKE, NOTHING, Changes, MarkChange
from videos.fields import State
from videos.ledger import reads
from videos.services.database import SCRIPT_TRIES, database, write_direct
from videos.services.outcomes import LikeResult, Unavailable, VideoNotFound
from videos.services.reading import read_counts


def set_like(*, video_id: int, user_id: int, liked: bool) -> LikeResult:
    """Set or remove a user's like; repeating it changes nothing. Raises VideoNotFound, UserNotFound, Unavailable."""
    at_ms = counters.now_ms()
    value = LIKE if liked else NOTHING
    try:
        done = counters.set_mark(video_id=video_id, user_id=user_id, value=value, at_ms=at_ms)
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
                at_ms=at_ms,
                facts=facts if done.facts else None,
                state=state,
            )
    except counters.CountersUnavailable:
        # Redis may have taken the wish too. A wish is a state, so writing it twice is safe.
        totals = write_direct(video_id, Changes([MarkChange(user_id, value, at_ms)]))
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
