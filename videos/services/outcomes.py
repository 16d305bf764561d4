"""What the services take and return, and their errors."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from videos.changes import Totals, VideosError


class VideoNotFound(VideosError):
    """No such video."""


class UserNotFound(VideosError):
    """The user of this token is gone."""


class Unavailable(VideosError):
    """Counts cannot be taken or read just now; try again in a moment."""


class ValueRefused(VideosError):
    """The database cannot hold a character or a number of this request."""


class LikeResult(NamedTuple):
    """Whether a user likes a video, and the video's likes. `stored`: read from the rows, because Redis is away."""

    video_id: int
    liked: bool | None  # None for an anonymous reader
    likes: int
    stored: bool = False


class View(NamedTuple):
    """Whether a view counted. `reason`: new, seen, bot, short, owner, address or full; only `new` counts."""

    video_id: int
    counted: bool
    reason: str
    views: int
    stored: bool = False


class ViewSums(NamedTuple):
    """How many of many views counted. `ignored` is by reason; `absent` is for videos that do not exist."""

    counted: int
    ignored: Mapping[str, int]
    stored: bool = False


class VideoCounts(NamedTuple):
    """The totals of one video; `liked` is None for an anonymous reader."""

    totals: Totals
    liked: bool | None = None


class Counts(NamedTuple):
    """Totals by video id; absent videos are left out. `stored`: read from the rows, because Redis is away."""

    by_video: Mapping[int, VideoCounts]
    stored: bool = False


class ListedLike(NamedTuple):
    """A like in a list."""

    at: datetime
    id: int  # of the user in a list of likers, of the video in a list of liked videos


class ListedLikes(NamedTuple):
    """Likes in the order of the list. `stored`: the user's last likes may be missing, because Redis is away."""

    likes: Sequence[ListedLike]
    stored: bool = False
