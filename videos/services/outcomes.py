"""What the services take and return, and their errors."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from videos.changes import LIKE, Totals, VideosError
from videos.conf import conf

_OF_DISLIKES: Final = frozenset({"rating", "dislike_count", "dislikes"})  # fields of answers


class VideoNotFound(VideosError):
    """No such video."""


class UserNotFound(VideosError):
    """The user of this token is gone."""


class Unavailable(VideosError):
    """Counts cannot be taken or read just now; try again in a moment."""


class ValueRefused(VideosError):
    """The database cannot hold a character or a number of this request."""


class LikeResult(NamedTuple):
    """A user's mark on a video, and the video's totals. `stored`: read from the rows, because Redis is away."""

    video_id: int
    mark: int | None  # its value; None for an anonymous reader
    totals: Totals
    stored: bool = False

    @property
    def liked(self) -> bool | None:
        """Whether the user likes the video; None for an anonymous reader."""
        return None if self.mark is None else self.mark == LIKE

    @property
    def likes(self) -> int:
        """How many users like it."""
        return self.totals.likes


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
    """The totals of one video, and the value of the reader's mark; None for an anonymous reader."""

    totals: Totals
    mark: int | None = None

    @property
    def liked(self) -> bool | None:
        """Whether the reader likes the video; None for an anonymous one."""
        return None if self.mark is None else self.mark == LIKE


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


def without_dislikes(fields: dict[str, Any]) -> dict[str, Any]:
    """These fields of an answer; without those of dislikes if the operator turns them off (VIDEOS_DISLIKES)."""
    return fields if conf.DISLIKES else {name: fields[name] for name in fields if name not in _OF_DISLIKES}
