"""What a like, an unlike and a view mean. Picks Redis, or the ledger when Redis is away.

docs/glossary.md explains the terms.
"""

from videos.counters import ViewEvent
from videos.ledger.reads import VideoRow, Window
from videos.ledger.search import SearchTimeout
from videos.services.database import is_away, own_transactions, refuses_value, whole_request
from videos.services.likes import get_like, liked_videos, likers, recent_marks, set_like
from videos.services.outcomes import (
    Counts,
    LikeResult,
    Unavailable,
    UserNotFound,
    ValueRefused,
    VideoCounts,
    VideoNotFound,
    View,
    ViewSums,
)
from videos.services.reading import (
    ids_by_name,
    list_videos,
    overlay_rows,
    read_counts,
    read_video,
    read_videos,
    search_videos,
    usernames,
)
from videos.services.videos import (
    IMPORTABLE,
    active_user,
    add_video,
    delete_video,
    edit_video,
    forget_user,
    forget_video,
    import_counts,
    index_all,
    index_videos,
    keep_watermark,
    note_like,
    refresh_video,
    sign_in,
)
from videos.services.views import record_view, record_views

__all__ = [
    "IMPORTABLE", "Counts", "LikeResult", "SearchTimeout", "Unavailable", "UserNotFound", "ValueRefused", "VideoCounts",
    "VideoNotFound", "VideoRow", "View", "ViewEvent", "ViewSums", "Window", "active_user", "add_video", "delete_video",
    "edit_video", "forget_user", "forget_video", "get_like", "ids_by_name", "import_counts", "index_all",
    "index_videos", "is_away", "keep_watermark", "liked_videos", "likers", "list_videos", "note_like", "overlay_rows",
    "own_transactions", "read_counts", "read_video", "read_videos", "recent_marks", "record_view", "record_views",
    "refresh_video", "refuses_value", "search_videos", "set_like", "sign_in", "usernames", "whole_request",
]  # fmt: skip
