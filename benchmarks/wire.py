"""The service's scripts through plain clients: the ceilings, and the quick way to let changes gather in Redis.

Keys, arguments and pending fields of the service are written out here and nowhere else in the benchmarks.
`python -m benchmarks.wire` measures raw clients: events a second and latencies in ms of the view script, as JSON. It
reads from standard input `{"seconds": n}` and one of: `"client": "redis-py"` or `"socket"`, for one view a call on one
connection; `"batches": [[[video, viewer], ...], ...]`, for a batch a call, again from the first when all are sent.

Over 250 lines: keys and arguments of all scripts stand in one place.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count, cycle, islice
from typing import Any, TypeVar

import hiredis
import redis

SHARDS = 16
HOUR_MS = 3_600_000
WEEK_SECONDS = 604_800
LIKED_SECONDS = 900
WINDOW_SECONDS = 1800
MIN_WATCHED_SECONDS = 10
RECENT_SECONDS = 2_592_000
DATED_SECONDS = WEEK_SECONDS + WINDOW_SECONDS
VIEW_KEYS = 6  # of an event
VIEW_RULES = (WEEK_SECONDS, WINDOW_SECONDS, 0, 0, 0, MIN_WATCHED_SECONDS, DATED_SECONDS, VIEW_KEYS, "0")
LIVE = {"likes": 0, "views": 0, "watched": 0, "dislikes": 0, "owner": 1, "duration": 300}
FAR_DEADLINE_MS = 10**13
CHUNK = 1_000  # commands of one round trip
T = TypeVar("T")


def live_key(video: int) -> str:
    """The key of a video's live counts."""
    return f"{{videos:{video % SHARDS}}}:live:{video}"


def view_arguments(sha: str, video: int, viewer: str) -> tuple[object, ...]:
    """What EVALSHA is given to count a view."""
    tag = f"{{videos:{video % SHARDS}}}"
    pending = f"{tag}:pending"
    return (
        sha, 3 + VIEW_KEYS, pending, f"{tag}:sums", f"{tag}:batch",
        f"{tag}:live:{video}", f"{tag}:seen:{video}:{viewer}", pending, pending, pending, pending,
        *VIEW_RULES,
        video, time.time_ns() // 1_000_000 // HOUR_MS, "", "", "0", "", FAR_DEADLINE_MS,
    )  # fmt: skip


def like_arguments(sha: str, video: int, user: int, wish: str, now_ms: int) -> tuple[object, ...]:
    """What EVALSHA is given to like a video ("1"), or no longer ("0")."""
    tag = f"{{videos:{video % SHARDS}}}"
    return (
        sha, 6, f"{tag}:live:{video}", f"{tag}:liked:{video}:{user}", f"{tag}:pending", f"{tag}:claimed",
        f"{tag}:batch", f"{tag}:sums", f"l:{video}:{user}", wish, now_ms, WEEK_SECONDS, LIKED_SECONDS, "", "",
        FAR_DEADLINE_MS,
    )  # fmt: skip


class Scripts:
    """The scripts of likes and views through redis-py as it comes."""

    def __init__(self, client: Any, shas: Sequence[str]) -> None:
        self.client, self.shas = client, shas
        self.like_sha, self.recent_sha, self.view_sha = shas

    @classmethod
    def loaded(cls, client: Any) -> Scripts:
        """Loaded into a Redis."""
        from videos.counters import scripts  # the processes that are measured are to go without Django

        return cls(client, [client.script_load(one.text) for one in (scripts.LIKE, scripts.RECENT, scripts.VIEW)])

    @classmethod
    def of_environment(cls) -> Scripts:
        """Those that another process loaded: REDIS_URL names the Redis, SCRIPTS has their SHA1s."""
        return cls(redis.Redis.from_url(os.environ["REDIS_URL"]), os.environ["SCRIPTS"].split())

    def view(self, video: int, viewer: str) -> tuple[bool, int]:
        """Count a view: whether it counted, and the views now."""
        code, views = self.client.evalsha(*view_arguments(self.view_sha, video, viewer))
        if code < 0:
            raise RuntimeError(f"video {video} is not live")
        return code == 0, views

    def views(self, events: Sequence[tuple[int, str]]) -> int:
        """Count (video, viewer) events, one script a shard, in one round trip: how many counted."""
        hour = time.time_ns() // 1_000_000 // HOUR_MS
        by_shard: dict[int, tuple[list[str], list[object]]] = {}
        for video, viewer in events:
            tag = f"{{videos:{video % SHARDS}}}"
            pending = f"{tag}:pending"
            if video % SHARDS not in by_shard:
                by_shard[video % SHARDS] = [pending, f"{tag}:sums", f"{tag}:batch"], list(VIEW_RULES)
            keys, arguments = by_shard[video % SHARDS]
            keys += (f"{tag}:live:{video}", f"{tag}:seen:{video}:{viewer}", pending, pending, pending, pending)
            arguments += (video, hour, "", "", "0", "")
        pipe = self.client.pipeline(transaction=False)
        for keys, arguments in by_shard.values():
            pipe.evalsha(self.view_sha, len(keys), *keys, *arguments, FAR_DEADLINE_MS)
        return sum(code == 0 for reply in pipe.execute() for code in reply[::2])

    def like(self, video: int, user: int, liked: bool) -> int:
        """Like a video, or no longer: the likes now. One round trip of two scripts, as the service sends them."""
        now = time.time_ns() // 1_000_000
        pipe = self.client.pipeline(transaction=False)
        pipe.evalsha(*like_arguments(self.like_sha, video, user, "1" if liked else "0", now))
        pipe.evalsha(self.recent_sha, 1, f"{{user:{user}}}:recent", now, video, RECENT_SECONDS)
        (code, likes, *_), _ = pipe.execute()  # the totals of the other counts follow
        if code < 0:
            raise RuntimeError(f"video {video} or what user {user} thinks of it is not known")
        return int(likes)

    def gather(
        self,
        *,
        videos: int = 0,
        unliked: Sequence[tuple[int, int]] = (),
        views: int = 0,
        likes: int = 0,
        users: int = 1,
    ) -> None:
        """Make videos 1..videos live, with counts of 0, and let Redis know that `unliked` (user, video) are no likes.

        Redis must have met the database. A live key carries the stamp of that meeting.
        Then videos 1..views are watched once each, and videos 1..likes are liked once each, by one of the users.
        """
        stamps = [
            bytes(stamp) for stamp in self._send(("HGET", f"{{videos:{n}}}:batch", "meeting") for n in range(SHARDS))
        ]
        live = [part for item in LIVE.items() for part in item]
        for chunk in _chunks(range(1, videos + 1)):
            self._send(
                command
                for video in chunk
                for command in (
                    ("HSET", live_key(video), *live, "meeting", stamps[video % SHARDS]),
                    ("EXPIRE", live_key(video), WEEK_SECONDS),
                )
            )
        for pairs in _chunks(unliked):
            self._send(_not_liked(video, user, 0) for user, video in pairs)
        for chunk in _chunks(range(1, views + 1)):
            if self.views([(video, f"v{video}") for video in chunk]) != len(chunk):
                raise RuntimeError("a view did not count")
        for chunk in _chunks(range(1, likes + 1)):
            now = time.time_ns() // 1_000_000
            told = self._send(
                command
                for video in chunk
                for user in [video % users + 1]
                for command in (
                    _not_liked(video, user, now),
                    ("EVALSHA", *like_arguments(self.like_sha, video, user, "1", now)),
                )
            )
            if any(code != 1 for code, *_ in told[1::2]):
                raise RuntimeError("a like changed nothing")

    def put_pending(self, fields: Iterable[tuple[int, str, str]]) -> None:
        """Pending (video, field, value) as the scripts write them, straight into their shards: quicker by minutes."""
        for chunk in _chunks(fields, SHARDS * CHUNK):
            shards: dict[int, list[str]] = {}
            for video, name, value in chunk:
                shards.setdefault(video % SHARDS, []).extend((name, value))
            self._send(("HSET", f"{{videos:{shard}}}:pending", *parts) for shard, parts in shards.items())

    def pending_fields(self, shards: Iterable[int] = range(SHARDS)) -> int:
        """How many changed likes, and hours with views, have gathered."""
        return sum(int(self.client.hlen(f"{{videos:{shard}}}:pending")) for shard in shards)

    def pending_views(self) -> int:
        """How many views have gathered."""
        held = [self.client.hgetall(f"{{videos:{shard}}}:pending") for shard in range(SHARDS)]
        return sum(int(views) for fields in held for name, views in fields.items() if name.startswith(b"v:"))

    def _send(self, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
        pipe = self.client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        replies: list[Any] = pipe.execute()
        return replies


def _not_liked(video: int, user: int, now_ms: int) -> tuple[object, ...]:
    return "SET", f"{{videos:{video % SHARDS}}}:liked:{video}:{user}", f"0:{now_ms}:0", "EX", LIKED_SECONDS


def _chunks(items: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


class Socket:
    """A blocking socket with hiredis on both sides of the wire: the least that Python can do."""

    def __init__(self, plain: Scripts) -> None:
        options = plain.client.connection_pool.connection_kwargs
        self._sha = plain.view_sha
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
        return self._ask("EVALSHA", *view_arguments(self._sha, video, viewer))


def _calls(plain: Scripts, told: dict[str, Any]) -> Iterator[tuple[int, Callable[[], object]]]:
    """Calls to make, each with the number of its events."""
    if "batches" in told:
        for batch in cycle(told["batches"]):
            yield len(batch), lambda batch=batch: plain.views(batch)  # type: ignore[misc]
    view: Callable[[int, str], object] = Socket(plain).view if told["client"] == "socket" else plain.view
    for number in count():
        yield 1, lambda number=number: view(number % 1_000 + 1, f"raw{number}")  # type: ignore[misc]


def _measure() -> None:
    plain, told = Scripts.of_environment(), json.load(sys.stdin)
    took = []
    events = 0
    began = now = time.perf_counter()
    for number, call in _calls(plain, told):
        call()
        before, now = now, time.perf_counter()
        took.append((now - before) * 1000)
        events += number
        if now - began >= told["seconds"]:
            break
    percentiles = statistics.quantiles(took, n=100) if len(took) > 1 else took * 99
    print(json.dumps({"events": events / (now - began), "p50": percentiles[49], "p99": percentiles[98]}))


if __name__ == "__main__":
    _measure()
