"""Lists: search, who likes a video, what a user likes. They contain the user's last likes and unlikes at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from videos.changes import moment
from videos.ledger import lists, reads
from videos.ledger.reads import VideoRow
from videos.services.database import database
from videos.services.likes import recent_likes
from videos.services.outcomes import ListedLike, ListedLikes, RecentLikes, VideoNotFound


def search_videos(
    *, words: Iterable[str], by: str, falling: bool, beyond: tuple[Any, int] | None, most: int
) -> list[VideoRow]:
    """The first rows of videos that contain every word, as `nearest_videos` orders them. Raises Unavailable."""
    with database():
        return lists.search_videos(words, by=by, falling=falling, beyond=beyond, most=most)


def likers(
    *, video_id: int, user_id: int | None, falling: bool, beyond: tuple[datetime, int] | None, most: int
) -> ListedLikes:
    """The first likes of a video in the order of (time, user), or the first beyond one; the ids are those of users.

    Raises VideoNotFound, Unavailable.
    """
    recent = RecentLikes() if user_id is None else recent_likes(user_id=user_id)
    own = next((like for like in recent.likes if like.video_id == video_id), None)
    added = {}
    with database():
        if not reads.read_facts([video_id]):
            raise VideoNotFound
        if own is not None and user_id is not None and own.liked and not reads.liked_among([video_id], user_id):
            added = {user_id: moment(own.at_ms)}
        without = user_id if own is not None and not own.liked else None
        rows = lists.likes_of_video(video_id, without=without, falling=falling, beyond=beyond, most=most)
    return ListedLikes(_merged(rows, added, falling, beyond)[:most], recent.stored)


def liked_videos(*, user_id: int, falling: bool, beyond: tuple[datetime, int] | None, most: int) -> ListedLikes:
    """The user's first likes in the order of (time, video), or the first beyond one; the ids are those of videos.

    Raises Unavailable.
    """
    recent = recent_likes(user_id=user_id)
    added = {like.video_id: moment(like.at_ms) for like in recent.likes if like.liked}
    unliked = [like.video_id for like in recent.likes if not like.liked]
    with database():
        for known in reads.liked_among(added, user_id):
            del added[known]
        rows = lists.likes_of_user(user_id, without=unliked, falling=falling, beyond=beyond, most=most)
    return ListedLikes(_merged(rows, added, falling, beyond)[:most], recent.stored)


def usernames(*, user_ids: Iterable[int]) -> dict[int, str]:
    """Names by user; absent users are left out. Raises Unavailable."""
    with database():
        return lists.usernames(user_ids)


def ids_by_name(*, name: str, most: int) -> tuple[list[int], list[int]]:
    """Ids of the users of this name, and of the videos whose title begins with it. Raises Unavailable."""
    with database():
        return lists.user_ids_by_name(name, most=most), lists.video_ids_by_title(name, most=most)


def _merged(
    rows: Sequence[tuple[datetime, int]],
    added: Mapping[int, datetime],
    falling: bool,
    beyond: tuple[datetime, int] | None,
) -> list[ListedLike]:
    """The rows, with the likes among them that are not rows yet."""
    likes = [ListedLike(*row) for row in rows]
    for known_id, at in added.items():
        like = ListedLike(at, known_id)
        if beyond is None or (like < beyond if falling else like > beyond):
            likes.append(like)
    return sorted(likes, reverse=falling)
