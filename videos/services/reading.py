"""Totals and videos for readers: live totals from Redis where there are some, else those in the rows."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from videos import counters
from videos.changes import NOTHING, Totals
from videos.counters import Live
from videos.ledger import lists, reads, search
from videos.ledger.reads import VideoRow, Window
from videos.models import Video
from videos.services.database import SCRIPT_TRIES, database
from videos.services.outcomes import Counts, VideoCounts, VideoNotFound
from videos.words import words_to_find

NOT_IN_REDIS: Final = Live(None, None)


def read_counts(*, video_ids: Iterable[int], user_id: int | None) -> Counts:
    """The totals of these videos now, with at most one query. Raises Unavailable if that query fails."""
    chosen = list(dict.fromkeys(video_ids))
    found, from_rows = _lookup(chosen, user_id)
    absent = [video_id for video_id in chosen if found.get(video_id, NOT_IN_REDIS).totals is None]
    if not absent:
        return _combine(chosen, {}, found, user_id=user_id, from_rows=from_rows)
    with database():
        read = reads.read_counts({*absent, *_unknown(chosen, found, user_id)}, user_id)
    there = [video_id for video_id in chosen if video_id in read or video_id not in absent]
    stored = {video_id: totals for video_id, (totals, _) in read.items()}
    marks = {video_id: value for video_id, (_, value) in read.items()}
    return _combine(there, stored, found, user_id=user_id, from_rows=from_rows, marks=marks)


def overlay_rows(*, rows: Iterable[VideoRow | Video], user_id: int | None) -> Counts:
    """The totals now of videos whose rows the caller has just read, with at most one query. Raises Unavailable."""
    stored = {row.id: row.totals for row in rows}
    found, from_rows = _lookup(list(stored), user_id)
    return _combine(list(stored), stored, found, user_id=user_id, from_rows=from_rows)


def read_videos(*, video_ids: Iterable[int]) -> dict[int, VideoRow]:
    """Rows by video; absent ones are left out. Raises Unavailable."""
    with database():
        return reads.read_videos(video_ids)


def read_video(*, video_id: int) -> VideoRow:
    """The row of a video. Raises VideoNotFound, Unavailable."""
    row = read_videos(video_ids=[video_id]).get(video_id)
    if row is None:
        raise VideoNotFound
    return row


def list_videos(*, window: Window) -> list[VideoRow]:
    """The videos in a window. Raises Unavailable."""
    with database():
        return reads.nearest_videos(window)


def list_trending(*, window: Window) -> list[tuple[int, VideoRow]]:
    """Scores and videos in a window of those that trend. Raises Unavailable."""
    with database():
        return reads.trending_videos(window)


def search_videos(*, text: str, window: Window) -> list[VideoRow]:
    """The videos in a window of those that have every word of a text. Raises SearchTimeout, Unavailable."""
    with database(patient=True):
        return search.search_videos(words_to_find(text), window)


def usernames(*, user_ids: Iterable[int]) -> dict[int, str]:
    """Names by user; absent users are left out. Raises Unavailable."""
    with database():
        return lists.usernames(user_ids)


def ids_by_name(*, name: str, most: int) -> tuple[list[int], list[int]]:
    """Ids of the users of this name, and of the newest videos that have every word of it.

    Raises SearchTimeout, Unavailable.
    """
    with database():
        users = lists.users_named(name, most=most)
    return users, [video.id for video in search_videos(text=name, window=Window("created_at", True, None, most))]


def find_videos(*, text: str, most: int) -> list[int]:
    """The newest videos that have every word of a text, and those whose owner has this name.

    Raises SearchTimeout, Unavailable.
    """
    users, videos = ids_by_name(name=text, most=most)
    with database():
        return videos + (lists.videos_of_owners(users, most=most) if users else [])


def _lookup(video_ids: Sequence[int], user_id: int | None) -> tuple[dict[int, Live], bool]:
    """What Redis knows, and True if it is away. Raises Unavailable."""
    try:
        found = counters.lookup(video_ids, user_id)
        for _ in range(SCRIPT_TRIES):
            lost = {video_id: live.lost for video_id, live in found.items() if live.lost is not None}
            if not lost:
                break
            with database():
                facts = reads.read_facts(lost)
            counters.prime({video_id: known._replace(version=lost[video_id]) for video_id, known in facts.items()})
            found = {video_id: live for video_id, live in found.items() if live.lost is None}
            found |= counters.lookup(facts, user_id)
    except counters.CountersUnavailable:
        return {}, True
    return found, False


def _unknown(video_ids: Iterable[int], found: Mapping[int, Live], user_id: int | None) -> list[int]:
    """The videos for which only the database knows the user's mark."""
    if user_id is None:
        return []
    return [video_id for video_id in video_ids if found.get(video_id, NOT_IN_REDIS).state is None]


def _combine(
    video_ids: Sequence[int],
    stored: Mapping[int, Totals],
    found: Mapping[int, Live],
    *,
    user_id: int | None,
    from_rows: bool,
    marks: Mapping[int, int] | None = None,  # None: the like rows are not read yet
) -> Counts:
    if marks is None:
        marks = {}
        unknown = _unknown(video_ids, found, user_id)
        if unknown and user_id is not None:
            with database():
                marks = reads.marks_among(unknown, user_id)
    by_video = {}
    for video_id in video_ids:
        totals, state, _ = found.get(video_id, NOT_IN_REDIS)
        if totals is None:
            totals = stored.get(video_id) or Totals()
        mark: int | None = None
        if user_id is not None:
            mark = marks.get(video_id, NOTHING) if state is None else state.value
        by_video[video_id] = VideoCounts(totals, mark)
    return Counts(by_video, from_rows)
