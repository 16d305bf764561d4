"""Lists: search, who likes a video, what a user likes. They contain the user's last likes and unlikes at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from videos.changes import LIKE, moment
from videos.ledger import lists, reads
from videos.ledger.reads import VideoRow, Window
from videos.services.database import database
from videos.services.likes import recent_marks
from videos.services.outcomes import ListedLike, ListedLikes, VideoNotFound


def list_videos(*, words: Sequence[str], window: Window) -> list[VideoRow]:
    """The videos in a window of those that contain every word. Raises Unavailable."""
    with database():
        return lists.search_videos(words, window) if words else reads.nearest_videos(window)


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


def usernames(*, user_ids: Iterable[int]) -> dict[int, str]:
    """Names by user; absent users are left out. Raises Unavailable."""
    with database():
        return lists.usernames(user_ids)


def ids_by_name(*, name: str, most: int) -> tuple[list[int], list[int]]:
    """Ids of the users of this name, and of the videos whose title begins with it. Raises Unavailable."""
    with database():
        return lists.user_ids_by_name(name, most=most), lists.video_ids_by_title(name, most=most)


def _merged(rows: Sequence[tuple[datetime, int]], added: Mapping[int, datetime], window: Window) -> list[ListedLike]:
    """The rows, with the likes among them that are not rows yet."""
    _, falling, beyond, most = window
    likes = [ListedLike(*row) for row in rows]
    for known_id, at in added.items():
        like = ListedLike(at, known_id)
        if beyond is None or (like < beyond if falling else like > beyond):
            likes.append(like)
    return sorted(likes, reverse=falling)[:most]
