"""What services take and return, and the errors that they raise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from videos.changes import Totals, VideosError


class VideoNotFound(VideosError):
    """No such video."""


class UserNotFound(VideosError):
    """The user of this token is gone."""


class Unavailable(VideosError):
    """Counts cannot be taken or read just now; try again in a moment."""


@dataclass(frozen=True, slots=True)
class Like:
    """A user's like of a video, and the video's number of likes. `stored`: from the rows, because Redis is away."""

    video_id: int
    liked: bool | None  # None for an anonymous reader
    likes: int
    stored: bool = False


@dataclass(frozen=True, slots=True)
class ViewEvent:
    """Somebody watched a video."""

    video_id: int
    viewer: str  # stable for one viewer, at most 64 characters; never an address in clear
    user_id: int | None = None  # of the viewer, where signed in
    watched: float | None = None  # seconds; None where the player does not report it
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


class VideoCounts(NamedTuple):
    """The totals of one video; `liked` is None for an anonymous reader."""

    totals: Totals
    liked: bool | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """Totals by video id; absent videos are left out. `stored`: from the rows, because Redis is away."""

    by_video: Mapping[int, VideoCounts]
    stored: bool = False


@dataclass(frozen=True, slots=True)
class RecentLike:
    """A like or unlike that may not be in the rows yet."""

    video_id: int
    liked: bool
    at_ms: int  # Unix milliseconds


@dataclass(frozen=True, slots=True)
class RecentLikes:
    """Likes and unlikes that may not be in the rows yet. `stored`: none are known, because Redis is away."""

    likes: Sequence[RecentLike] = ()
    stored: bool = False
