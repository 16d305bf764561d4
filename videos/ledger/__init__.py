"""The database: the only writer of like rows and count columns. Knows no Redis.

A writer locks a video's row before it changes the video's marks, tallies or totals, and locks rows in the order of
their ids. So `like_count` always equals the number of like rows, and writers do not deadlock on videos.
docs/glossary.md explains the terms.
"""

from videos.ledger.batches import (
    Outcome,
    Rewound,
    apply,
    check_complete,
    compare_batches,
    end_forgotten,
    finish_batch,
    highest_watermark,
    lock_watermark,
    newest_batches,
    open_batch,
)
from videos.ledger.breaker import limited
from videos.ledger.doubts import has_doubts, note_doubts
from videos.ledger.forgotten import forgotten_users, rows_of_user, settle_forgotten
from videos.ledger.history import (
    VideoHistory,
    delete_history,
    history_total,
    loose_since,
    loose_total,
    merge_site_hours,
    newest_own_videos,
    read_owner_history,
    read_site_hours,
    read_video_history,
    roll_up,
)
from videos.ledger.meetings import StaleFence, fences, identity, location, meet, met_runs, take_identity
from videos.ledger.notes import (
    Settled,
    forget_user,
    forget_video,
    note_edit,
    note_like,
    note_stale,
    note_total,
    settle,
    shards_with_notes,
    stale_videos,
    write_direct,
)
from videos.ledger.recount import Difference, import_counts, recount, video_ids, video_total
from videos.ledger.retry import TRIES, flush_session, is_away, is_data_fault, is_lock_timeout
from videos.ledger.sign_ins import begin_sign_in, end_sign_in, keep_sign_ins, rotate_sign_in
from videos.ledger.trending import recompute_all_trends
from videos.ledger.upkeep import FlushFacts, has_one_writer, last_hour_sums, ping, prune, read_flush_facts
from videos.ledger.words import PART_VIDEOS, index_range, index_videos
from videos.ledger.writer import alias, atomic, disconnect, drop_stale_connection, rows

__all__ = [
    "PART_VIDEOS", "TRIES", "Difference", "FlushFacts", "Outcome", "Rewound", "Settled", "StaleFence", "VideoHistory",
    "alias", "apply", "atomic", "begin_sign_in", "check_complete", "compare_batches", "delete_history", "disconnect",
    "drop_stale_connection", "end_forgotten", "end_sign_in", "fences", "finish_batch", "flush_session", "forget_user",
    "forget_video", "forgotten_users", "has_doubts", "has_one_writer", "highest_watermark", "history_total", "identity",
    "import_counts", "index_range", "index_videos", "is_away", "is_data_fault", "is_lock_timeout", "keep_sign_ins",
    "last_hour_sums", "limited", "location", "lock_watermark", "loose_since", "loose_total", "meet", "merge_site_hours",
    "met_runs", "newest_batches", "newest_own_videos", "note_doubts", "note_edit", "note_like", "note_stale",
    "note_total", "open_batch", "ping", "prune", "read_flush_facts", "read_owner_history", "read_site_hours",
    "read_video_history", "recompute_all_trends", "recount", "roll_up", "rotate_sign_in", "rows", "rows_of_user",
    "settle", "settle_forgotten", "shards_with_notes", "stale_videos", "take_identity", "video_ids", "video_total",
    "write_direct",
]  # fmt: skip
