"""What a like, an unlike and a view mean. Picks Redis, or the ledger when Redis is away.

docs/glossary.md explains the terms.
"""

from videos.counters import Hashes, ViewEvent
from videos.ledger.encryption import refuse_clear
from videos.ledger.reads import TRENDS, VideoRow, Window
from videos.ledger.search import SearchTimeout
from videos.services.accounts import (
    active_user,
    begin_session,
    begin_sign_in,
    end_session,
    has_permission,
    keep_sign_ins,
    renew_sign_in,
    sign_in,
    sign_out,
    signing_in,
)
from videos.services.database import is_away, own_transactions, refuses_value, whole_request
from videos.services.history import (
    History,
    OwnHistory,
    delete_history,
    hour_at,
    hours_kept_since,
    merge_history,
    owner_history,
    recompute_trends,
    site_history,
    video_history,
)
from videos.services.likes import get_like, liked_videos, likers, recent_marks, set_like, set_mark
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
    without_dislikes,
)
from videos.services.overview import (
    acknowledge,
    gains_by_step,
    latest_batches,
    owned_by,
    troubled_batches,
)
from videos.services.privacy import export_user
from videos.services.reading import (
    find_videos,
    ids_by_name,
    list_trending,
    list_videos,
    overlay_rows,
    read_counts,
    read_video,
    read_videos,
    search_videos,
    usernames,
)
from videos.services.throttles import Hits, count_hits
from videos.services.videos import (
    IMPORTABLE,
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
)
from videos.services.views import record_view, record_views

__all__ = [
    "IMPORTABLE", "TRENDS", "Counts", "Hashes", "History", "Hits", "LikeResult", "OwnHistory", "SearchTimeout",
    "Unavailable", "UserNotFound", "ValueRefused", "VideoCounts", "VideoNotFound", "VideoRow", "View", "ViewEvent",
    "ViewSums", "Window", "acknowledge", "active_user", "add_video", "begin_session", "begin_sign_in",
    "count_hits", "delete_history", "delete_video", "edit_video", "end_session", "export_user", "find_videos",
    "forget_user", "forget_video", "gains_by_step", "get_like", "has_permission", "hour_at", "hours_kept_since",
    "ids_by_name", "import_counts", "index_all", "index_videos", "is_away", "keep_sign_ins", "keep_watermark",
    "latest_batches", "liked_videos", "likers", "list_trending", "list_videos", "merge_history", "note_like",
    "overlay_rows", "own_transactions", "owned_by", "owner_history", "read_counts", "read_video", "read_videos",
    "recent_marks", "recompute_trends", "record_view", "record_views", "refresh_video", "refuse_clear",
    "refuses_value", "renew_sign_in", "search_videos", "set_like", "set_mark", "sign_in", "sign_out", "signing_in",
    "site_history", "troubled_batches", "usernames", "video_history", "whole_request",
    "without_dislikes",
]  # fmt: skip
