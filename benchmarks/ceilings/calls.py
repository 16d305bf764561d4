"""The one Redis call of a like and of a view: the service's scripts, keys and arguments, through plain redis-py."""

import os
import time
from importlib import resources

import redis

SHARDS = 16
HOUR_MS = 3_600_000
WEEK_SECONDS = 604_800
LIKED_SECONDS = 900
WINDOW_SECONDS = 1800
MIN_WATCHED_SECONDS = 30
RECENT_SECONDS = 120
RECENT_VIDEOS = 200

client = redis.Redis.from_url(os.environ["REDIS_URL"])
_scripts = {
    name: client.script_load(resources.files("videos.lua").joinpath(f"{name}.lua").read_text())
    for name in ("like", "recent", "view")
}


def view(video: int, viewer: str) -> tuple[bool, int]:
    """Count a view: whether it counted, and the views now."""
    tag = f"{{videos:{video % SHARDS}}}"
    pending = f"{tag}:pending"
    code, views = client.evalsha(
        _scripts["view"], 5, pending, f"{tag}:batch", f"{tag}:live:{video}", f"{tag}:seen:{video}:{viewer}", pending,
        WEEK_SECONDS, WINDOW_SECONDS, 0, MIN_WATCHED_SECONDS,
        video, time.time_ns() // 1_000_000 // HOUR_MS, "", "", "0", "0",
    )  # fmt: skip
    if code < 0:
        raise RuntimeError(f"video {video} is not live")
    return code == 0, views


def like(video: int, user: int, liked: bool) -> int:
    """Like a video, or no longer: the likes now. One round trip of two scripts, as the service sends them."""
    tag = f"{{videos:{video % SHARDS}}}"
    now = time.time_ns() // 1_000_000
    pipe = client.pipeline(transaction=False)
    pipe.evalsha(
        _scripts["like"], 5, f"{tag}:live:{video}", f"{tag}:liked:{video}:{user}", f"{tag}:pending", f"{tag}:claimed",
        f"{tag}:batch", f"l:{video}:{user}", "1" if liked else "0", now, WEEK_SECONDS, LIKED_SECONDS,
    )  # fmt: skip
    pipe.evalsha(_scripts["recent"], 1, f"{{user:{user}}}:recent", now, video, RECENT_SECONDS, RECENT_VIDEOS)
    (code, likes), _ = pipe.execute()
    if code < 0:
        raise RuntimeError(f"video {video} or what user {user} thinks of it is not known")
    return int(likes)
