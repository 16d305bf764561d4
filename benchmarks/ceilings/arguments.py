"""The keys and arguments of the service's scripts, written out: what a hand-written client sends."""

import time

SHARDS = 16
HOUR_MS = 3_600_000
WEEK_SECONDS = 604_800
LIKED_SECONDS = 900
WINDOW_SECONDS = 1800
MIN_WATCHED_SECONDS = 30
RECENT_SECONDS = 120
RECENT_VIDEOS = 200


def view_arguments(sha: str, video: int, viewer: str) -> tuple[object, ...]:
    """What EVALSHA is given to count a view."""
    tag = f"{{videos:{video % SHARDS}}}"
    pending = f"{tag}:pending"
    return (
        sha, 5, pending, f"{tag}:batch", f"{tag}:live:{video}", f"{tag}:seen:{video}:{viewer}", pending,
        WEEK_SECONDS, WINDOW_SECONDS, 0, MIN_WATCHED_SECONDS,
        video, time.time_ns() // 1_000_000 // HOUR_MS, "", "", "0", "0",
    )  # fmt: skip


def like_arguments(sha: str, video: int, user: int, wish: str, now_ms: int) -> tuple[object, ...]:
    """What EVALSHA is given to like a video ("1"), or no longer ("0")."""
    tag = f"{{videos:{video % SHARDS}}}"
    return (
        sha, 5, f"{tag}:live:{video}", f"{tag}:liked:{video}:{user}", f"{tag}:pending", f"{tag}:claimed",
        f"{tag}:batch", f"l:{video}:{user}", wish, now_ms, WEEK_SECONDS, LIKED_SECONDS,
    )  # fmt: skip
