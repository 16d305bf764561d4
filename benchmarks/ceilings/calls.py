"""The one Redis call of a like and of a view: the service's scripts, keys and arguments, through plain redis-py."""

import os
import socket
import time
from collections.abc import Sequence
from importlib import resources
from typing import Any

import hiredis
import redis

from benchmarks.ceilings.arguments import (
    HOUR_MS,
    LIKED_SECONDS,
    MIN_WATCHED_SECONDS,
    RECENT_SECONDS,
    RECENT_VIDEOS,
    SHARDS,
    WEEK_SECONDS,
    WINDOW_SECONDS,
    like_arguments,
    view_arguments,
)

client: Any = redis.Redis.from_url(os.environ["REDIS_URL"])
_scripts = {
    name: client.script_load(resources.files("videos.lua").joinpath(f"{name}.lua").read_text())
    for name in ("like", "recent", "view")
}


def view(video: int, viewer: str) -> tuple[bool, int]:
    """Count a view: whether it counted, and the views now."""
    code, views = client.evalsha(*view_arguments(_scripts["view"], video, viewer))
    if code < 0:
        raise RuntimeError(f"video {video} is not live")
    return code == 0, views


def views(events: Sequence[tuple[int, str]]) -> int:
    """Count (video, viewer) events, one script a shard, in one round trip: how many counted."""
    hour = time.time_ns() // 1_000_000 // HOUR_MS
    by_shard: dict[int, tuple[list[str], list[object]]] = {}
    for video, viewer in events:
        shard = video % SHARDS
        tag = f"{{videos:{shard}}}"
        pending = f"{tag}:pending"
        if shard not in by_shard:
            limits: list[object] = [WEEK_SECONDS, WINDOW_SECONDS, 0, MIN_WATCHED_SECONDS]
            by_shard[shard] = [pending, f"{tag}:batch"], limits
        keys, arguments = by_shard[shard]
        keys += (f"{tag}:live:{video}", f"{tag}:seen:{video}:{viewer}", pending)
        arguments += (video, hour, "", "", "0", "0")
    pipe = client.pipeline(transaction=False)
    for keys, arguments in by_shard.values():
        pipe.evalsha(_scripts["view"], len(keys), *keys, *arguments)
    return sum(code == 0 for reply in pipe.execute() for code in reply[::2])


def like(video: int, user: int, liked: bool) -> int:
    """Like a video, or no longer: the likes now. One round trip of two scripts, as the service sends them."""
    now = time.time_ns() // 1_000_000
    pipe = client.pipeline(transaction=False)
    pipe.evalsha(*like_arguments(_scripts["like"], video, user, "1" if liked else "0", now))
    pipe.evalsha(_scripts["recent"], 1, f"{{user:{user}}}:recent", now, video, RECENT_SECONDS, RECENT_VIDEOS)
    (code, likes), _ = pipe.execute()
    if code < 0:
        raise RuntimeError(f"video {video} or what user {user} thinks of it is not known")
    return int(likes)


def make_live(videos: Sequence[int]) -> None:
    """Put these videos' counts into Redis, as the service does when it first meets them: all 0."""
    pipe = client.pipeline(transaction=False)
    live = {"likes": 0, "views": 0, "owner": 1, "duration": 300, "epoch": -1, "likes_pending": 0, "views_pending": 0}
    for video in videos:
        key = f"{{videos:{video % SHARDS}}}:live:{video}"
        pipe.hset(key, mapping=live)
        pipe.expire(key, WEEK_SECONDS)
    pipe.execute()


def know_unliked(pairs: Sequence[tuple[int, int]]) -> None:
    """Let Redis know that these (user, video) are no likes."""
    pipe = client.pipeline(transaction=False)
    for user, video in pairs:
        pipe.set(f"{{videos:{video % SHARDS}}}:liked:{video}:{user}", "0:0", ex=LIKED_SECONDS)
    pipe.execute()


def like_new(pairs: Sequence[tuple[int, int]]) -> None:
    """Like many (video, user) at once, of which no user likes any yet; the videos are live."""
    now = time.time_ns() // 1_000_000
    pipe = client.pipeline(transaction=False)
    for video, user in pairs:
        pipe.set(f"{{videos:{video % SHARDS}}}:liked:{video}:{user}", f"0:{now}", ex=LIKED_SECONDS)
        pipe.evalsha(*like_arguments(_scripts["like"], video, user, "1", now))
    if any(code != 1 for code, _ in pipe.execute()[1::2]):
        raise RuntimeError("a like changed nothing")


class Socket:
    """A blocking socket with hiredis on both sides of the wire: the least that Python can do."""

    def __init__(self) -> None:
        options = client.connection_pool.connection_kwargs
        self._socket = socket.create_connection((options["host"], options["port"]))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()
        self._ask("SELECT", options["db"])

    def _ask(self, *command: object) -> object:
        parts: Any = tuple(part if isinstance(part, str) else str(part) for part in command)
        self._socket.sendall(hiredis.pack_command(parts))
        while True:
            self._reader.feed(self._socket.recv(65536))
            reply = self._reader.gets()
            if reply is not False:
                return reply

    def view(self, video: int, viewer: str) -> object:
        """Count a view."""
        return self._ask("EVALSHA", *view_arguments(_scripts["view"], video, viewer))
