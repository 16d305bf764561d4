"""What a like, an unlike and a view mean. Picks Redis, or the ledger when Redis is away."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


class VideoNotFound(Exception):
    """No such video."""


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


@dataclass(frozen=True, slots=True)
class Count:
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


def set_like(*, video: int, user: int, liked: bool) -> Like:
    """Make `user` like `video`, or not; repeats change nothing. Raises VideoNotFound, Unavailable."""
    raise NotImplementedError


def get_like(*, video: int, user: int | None) -> Like:
    """Whether `user` likes `video`, own last write included. Raises VideoNotFound, Unavailable."""
    raise NotImplementedError


def record_view(*, event: ViewEvent) -> View:
    """Count one view, or say why not. Raises VideoNotFound, Unavailable."""
    raise NotImplementedError


def record_views(*, events: Sequence[ViewEvent]) -> ViewSums:
    """Count a batch of views in one round trip. Raises Unavailable: sent again, what had counted is `seen`."""
    raise NotImplementedError


def read_counts(*, videos: Iterable[int], user: int | None) -> Counts:
    """The numbers of these videos now. Raises Unavailable when both Redis and the database are away."""
    raise NotImplementedError


def overlay_counts(*, stored: Mapping[int, tuple[int, int]], user: int | None) -> Counts:
    """The numbers now of videos whose rows the caller has just read as `{id: (likes, views)}`: at most one query."""
    raise NotImplementedError


def recent_likes(*, user: int) -> Sequence[RecentLike]:
    """The user's likes and unlikes of the last two flush intervals, newest first; empty when Redis is away."""
    raise NotImplementedError
