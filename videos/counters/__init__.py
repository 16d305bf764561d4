"""Redis: the live totals, and the changes that wait for a flush. Knows ids and numbers, no models.

A request changes `pending` and `live` together, in one script. A flush renames `pending` to `claimed` and numbers it as
a batch, writes it to the database chunk by chunk, and confirms each chunk. Confirming removes the chunk from `claimed`
and sets `live` from the rows. Each script checks that it still applies, so any number of requests and flushes may
overlap. docs/glossary.md explains the terms.
"""

from videos.counters.batches import (
    Batch,
    Claim,
    Closed,
    Confirmation,
    DoneBatch,
    Kept,
    drop_kept,
    read_kept,
    resync,
)
from videos.counters.clock import now_ms
from videos.counters.connection import CountersMismatch, CountersUnavailable, Unmet
from videos.counters.facts import live_videos, set_facts
from videos.counters.hits import Hits, count_hits
from videos.counters.keys import shard_of
from videos.counters.meetings import (
    Pairing,
    ShardRun,
    clear_shards,
    disconnect_others,
    forget_views,
    pair,
    pair_as,
    read_pairing,
    shard_runs,
    take_fences,
)
from videos.counters.memory import is_full, known_share
from videos.counters.requests import (
    REASONS,
    Hashes,
    Live,
    Marked,
    Missing,
    ViewEvent,
    forget,
    lookup,
    prime,
    recent,
    refresh,
    set_mark,
    view,
    waiting_marks,
)
from videos.counters.status import (
    Depth,
    beats,
    depths,
    find_fault,
    last_finished_run,
    memory_share,
    note_beats,
    note_finished_run,
    option_fault,
    refused,
    server_facts,
    watched_since,
)
from videos.counters.traces import forget_users, traces_of_user
from videos.counters.waiting import Waiting, WaitingSums, is_current, read_waiting, read_waiting_sums

__all__ = [
    "REASONS", "Batch", "Claim", "Closed", "Confirmation", "CountersMismatch", "CountersUnavailable", "Depth",
    "DoneBatch", "Hashes", "Hits", "Kept", "Live", "Marked", "Missing", "Pairing", "ShardRun", "Unmet", "ViewEvent",
    "Waiting", "WaitingSums", "beats", "clear_shards", "count_hits", "depths", "disconnect_others", "drop_kept",
    "find_fault", "forget", "forget_users", "forget_views", "is_current", "is_full", "known_share", "last_finished_run",
    "live_videos", "lookup", "memory_share", "note_beats", "note_finished_run", "now_ms", "option_fault", "pair",
    "pair_as", "prime", "read_kept", "read_pairing", "read_waiting", "read_waiting_sums", "recent", "refresh",
    "refused", "resync", "server_facts", "set_facts", "set_mark", "shard_of", "shard_runs", "take_fences",
    "traces_of_user", "view", "waiting_marks", "watched_since",
]  # fmt: skip
