"""The Redis room: what is live, pending and claimed. Knows ids and numbers, no models.

The data flow: a request moves `pending` and `live` together in one script. A flush renames `pending` to `claimed`
under a batch number, brings it to the database chunk by chunk, and confirms each chunk, which removes it from
`claimed` and sets `live` from the rows. Every script is guarded, so that any number of requests and flushers may
overlap.

Glossary, every key of a video under the hash tag of its shard (`video % VIDEOS_SHARDS`):

    {videos:7}:live:42       hash    the numbers shown, how much of them has gathered since the newest claim; of a
                                     video without likes, until when a like by somebody unknown is a new one
    {videos:7}:liked:42:9    string  "1:<ms>" or "0:<ms>": what user 9 last wished of video 42, as far as known
    {videos:7}:seen:42:<v>   string  a view of this viewer was counted in this window
    {videos:7}:address:42:<a> string how many views of this address were counted in this window
    {videos:7}:pending       hash    "l:42:9" -> "1:<ms>" or "0:<ms>", a changed like; "v:42:<hour>" -> views
    {videos:7}:claimed       hash    pending, renamed: the batch being flushed
    {videos:7}:batch         hash    number of the claimed batch, last ever claimed, whether it is open, its sums
    {videos:7}:rejected      hash    "<batch>:<field>" -> value: malformed fields, kept aside
    {user:9}:recent          zset    videos whose like this user changed lately
    videos:shards            string  the largest number of shards that there has been
    videos:flushed           string  when a run of the flush last finished, in Unix milliseconds
    videos:watched           string  when somebody first asked how the flush is, in Unix milliseconds
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import select
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, Final, NamedTuple

import hiredis
import redis
from django.core.signals import setting_changed
from django_redis import get_redis_connection
from redis._parsers import BaseParser

from videos.conf import conf

logger = logging.getLogger(__name__)

RECENT_VIDEOS = 200
REASONS: Final = ("new", "seen", "bot", "short", "owner", "address")
FLUSH_TIMEOUT_SECONDS = 10.0  # a flusher's script handles thousands of fields; a request's handles one
RECEIVE_BYTES = 65_536
# Fields of one read of a claimed batch, and of one confirm. Meanwhile Redis serves nobody else: 15 µs a field.
READ_FIELDS = 1000
CONFIRM_FIELDS = 100
REFUSALS = ("MISCONF", "NOREPLICAS", "BUSY")  # errors with which a server executes nothing of a script


class CountersUnavailable(Exception):
    """The counters' Redis did not answer."""

    def __init__(self, message: str | None = None, *, uncertain: bool = False) -> None:
        super().__init__(message or self.__doc__)
        self.uncertain = uncertain  # it may have executed what it was asked


class Base(NamedTuple):
    """What a live key begins with, from the video's row."""

    likes: int
    views: int
    owner: int
    duration: int  # seconds; 0 is not known


class Liked(NamedTuple):
    """Outcome of a wish: the like's state and the video's likes now."""

    changed: bool
    likes: int


class Needs(NamedTuple):
    """What a script lacks; the caller reads it from the database, and calls again with it."""

    state: bool
    base: bool


class Event(NamedTuple):
    """A view, as the script takes it."""

    video_id: int
    viewer: str
    hour: int  # hours since 1970
    user_id: int | None = None
    watched: float | None = None  # seconds
    bot: bool = False
    address: str | None = None


class Live(NamedTuple):
    """What Redis knows of a video; None where it does not."""

    likes: int | None
    views: int | None
    liked: bool | None
    wished_ms: int


class Claim(NamedTuple):
    """A claimed batch, or number 0 where nothing was pending; `last` is the newest number of the shard."""

    number: int
    last: int
    fields: int
    rewound: bool
    claimed_ms: int


class Sums(NamedTuple):
    """What became of a batch's fields."""

    applied: int
    repeated: int
    dropped: int
    rejected: int


@dataclass(slots=True)
class Confirmation:
    """What the database has committed of one video; None for one whose name could not be read."""

    video_id: int | None
    counts: tuple[int, int] | None = None  # likes and views in its row; None where the video is gone
    applied: Sequence[bytes | str] = ()
    repeated: Sequence[bytes | str] = ()
    dropped: Sequence[bytes | str] = ()
    rejected: Sequence[bytes | str] = ()

    def outcomes(self) -> tuple[Sequence[bytes | str], ...]:
        """The fields in the order that the script takes."""
        return self.applied, self.repeated, self.dropped, self.rejected

    def __len__(self) -> int:
        return len(self.applied) + len(self.repeated) + len(self.dropped) + len(self.rejected)


class Wished(NamedTuple):
    """A like that changed outside a batch, as the rows have it now."""

    user_id: int
    liked: bool
    wished_ms: int


class Depth(NamedTuple):
    """How much lies in a shard, in fields."""

    pending: int
    claimed: int
    rejected: int


def shard_of(video_id: int) -> int:
    """The shard in which a video lives."""
    return video_id % conf.SHARDS


def now_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


_REFUSALS = (
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.NoPermissionError,
    redis.exceptions.AuthenticationError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.MasterDownError,
)


class _Shard:
    """A shard's keys, made once. Here and in what follows is the one place in which keys are named."""

    __slots__ = ("batch", "claimed", "pending", "prefix", "rejected")

    def __init__(self, number: int) -> None:
        self.prefix = f"{{videos:{number}}}:"
        self.pending = f"{self.prefix}pending"
        self.claimed = f"{self.prefix}claimed"
        self.batch = f"{self.prefix}batch"
        self.rejected = f"{self.prefix}rejected"

    def live(self, video_id: int) -> str:
        return f"{self.prefix}live:{video_id}"

    def liked(self, video_id: int, user_id: int) -> str:
        return f"{self.prefix}liked:{video_id}:{user_id}"

    def seen(self, video_id: int, viewer: str) -> str:
        return f"{self.prefix}seen:{video_id}:{viewer}"

    def address(self, video_id: int, address: str) -> str:
        return f"{self.prefix}address:{video_id}:{address}"


_shard = lru_cache(maxsize=4096)(_Shard)


def _live_key(video_id: int) -> str:
    return _shard(shard_of(video_id)).live(video_id)


def _recent_key(user_id: int) -> str:
    return f"{{user:{user_id}}}:recent"


_SHARDS_KEY: Final = "videos:shards"
_FLUSHED_KEY: Final = "videos:flushed"
_WATCHED_KEY: Final = "videos:watched"


class _Script:
    """A Lua file, read once; called by its SHA1."""

    def __init__(self, name: str) -> None:
        self.text = resources.files("videos.lua").joinpath(f"{name}.lua").read_bytes()
        self.sha = hashlib.sha1(self.text).hexdigest()  # noqa: S324 - Redis names scripts so

    def command(self, keys: Sequence[str], *args: Any) -> tuple[Any, ...]:
        return ("EVALSHA", self.sha, len(keys), *keys, *args)


_LIKE, _VIEW, _PRIME, _READ, _RECENT = (_Script(name) for name in ("like", "view", "prime", "read", "recent"))
_CLAIM, _CLAIMED, _CONFIRM, _CLOSE = (_Script(name) for name in ("claim", "claimed", "confirm", "close"))
_RESYNC, _REFRESH = _Script("resync"), _Script("refresh")
_SCRIPTS = {script.sha: script for script in list(globals().values()) if isinstance(script, _Script)}


_pooling = threading.Lock()  # of threads that come first at once, django-redis would give each a pool of its own


class _Lease:
    """A connection lent by django-redis' pool to one thread, and given back when the thread is gone.

    redis-py connects, with all that belongs to it: TLS, credentials, the database's number. What is then sent and
    read goes past its layers, straight to the socket and to hiredis: they cost as much time again as the server's
    answer.
    """

    __slots__ = ("_poll", "_reader", "_sock", "connection", "owner", "pool")

    def __init__(self, owner: tuple[int, int]) -> None:
        self.owner = owner
        with _pooling:
            self.pool = get_redis_connection(conf.COUNTERS_ALIAS).connection_pool
        self.connection: Any = self.pool.get_connection()
        self._attach()

    def _attach(self) -> None:
        self._sock = self.connection._sock
        self._reader = hiredis.Reader(protocolError=redis.exceptions.InvalidResponse, replyError=BaseParser.parse_error)
        self._poll = select.poll()
        self._poll.register(self._sock, select.POLLIN)

    def make_ready(self) -> None:
        """Connect again where the server hung up, or there is a reply that nobody waits for.

        Nothing was sent, so it is safe.
        """
        if self._sock is not None and not self._poll.poll(0):
            return
        self.disconnect()
        self.connection.connect()
        self._attach()

    def disconnect(self) -> None:
        """Close the socket."""
        self._sock = None
        self.connection.disconnect()

    def exchange(self, commands: Sequence[tuple[Any, ...]], timeout: float | None) -> list[Any]:
        """Send commands and return their replies, errors of the server among them.

        Raises redis.RedisError and OSError.
        """
        sock, reader = self._sock, self._reader
        if timeout is not None:
            sock.settimeout(timeout)
        sock.sendall(b"".join([hiredis.pack_command(command) for command in commands]))
        replies = []
        for _ in commands:
            while (reply := reader.gets()) is False:
                data = sock.recv(RECEIVE_BYTES)
                if not data:
                    raise redis.ConnectionError("the server closed the connection")
                reader.feed(data)
            if isinstance(reply, redis.exceptions.BusyLoadingError):
                raise reply
            replies.append(reply)
        if timeout is not None:
            sock.settimeout(self.connection.socket_timeout)
        return replies

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # the interpreter may be half gone
            if self.owner[0] == os.getpid():
                self.pool.release(self.connection)


class _Wire(threading.local):
    """The thread's own lease: the pool's bookkeeping at each call would cost a third of it."""

    lease: _Lease | None = None


_wire = _Wire()
_generation = 0  # grows when the settings change, so that no thread keeps a connection to the old server
_away_until = 0.0  # on time.monotonic()


def _forget_connections(*, setting: str = "CACHES", **_: Any) -> None:
    global _generation, _away_until
    if setting in {"CACHES", "VIDEOS_COUNTERS_ALIAS"}:
        _generation += 1
        _away_until = 0.0


setting_changed.connect(_forget_connections, dispatch_uid="videos.counters")


def _connect() -> _Lease:
    owner = (os.getpid(), _generation)
    lease = _wire.lease
    if lease is not None and lease.owner == owner:
        lease.make_ready()
    else:
        _wire.lease = None  # given back first
        lease = _wire.lease = _Lease(owner)
    return lease


def _leave_alone(error: Exception, *, uncertain: bool) -> CountersUnavailable:
    global _away_until
    _away_until = time.monotonic() + conf.REDIS_PAUSE_SECONDS
    logger.warning("Redis is left alone for %s s: %s: %s", conf.REDIS_PAUSE_SECONDS, type(error).__name__, error)
    if _wire.lease is not None:
        _wire.lease.disconnect()
    return CountersUnavailable(f"The counters' Redis: {error}", uncertain=uncertain)


def _send(commands: Sequence[tuple[Any, ...]], *, timeout: float | None = None) -> list[Any]:
    """Send commands in one round trip and return their replies. Nothing is ever repeated but what was not executed.

    With a `timeout` (seconds) the caller is a flusher: it does not leave Redis alone after somebody's failure.
    """
    if timeout is None and _away_until and time.monotonic() < _away_until:
        raise CountersUnavailable
    try:
        lease = _connect()
    except (redis.RedisError, OSError) as error:
        raise _leave_alone(error, uncertain=False) from error
    try:
        replies = lease.exchange(commands, timeout)
        unknown = [i for i, reply in enumerate(replies) if isinstance(reply, redis.exceptions.NoScriptError)]
        if unknown:
            again = [commands[i] for i in unknown]
            loads = [("SCRIPT", "LOAD", _SCRIPTS[sha].text) for sha in {command[1] for command in again}]
            for i, reply in zip(unknown, lease.exchange([*loads, *again], timeout)[len(loads) :], strict=True):
                replies[i] = reply
    except (redis.RedisError, OSError) as error:
        loading = isinstance(error, redis.exceptions.BusyLoadingError)
        raise _leave_alone(error, uncertain=not loading) from error
    for reply in replies:
        if isinstance(reply, Exception):
            # Of several shards one may have refused and another counted: then nobody may do all of it elsewhere.
            uncertain = not all(map(_moved_nothing, replies))
            raise CountersUnavailable(f"The counters' Redis: {reply}", uncertain=uncertain) from reply
    return replies


def _moved_nothing(reply: Any) -> bool:
    """Whether a command that was answered so is sure to have left the counts alone."""
    if isinstance(reply, Exception):
        return str(reply).startswith(REFUSALS) or isinstance(reply, _REFUSALS)
    lacking = isinstance(reply, list) and all(code == -1 for code in reply[::2])
    return reply is None or lacking  # prime.lua's answer; like.lua's and view.lua's where they lacked something


def _flush_call(command: tuple[Any, ...]) -> Any:
    return _send([command], timeout=FLUSH_TIMEOUT_SECONDS)[0]


# The request corridor


def like(
    *, video_id: int, user_id: int, liked: bool, at_ms: int, base: Base | None = None, state: bool | None = None
) -> Liked | Needs:
    """Make a user like a video, or not, in one round trip; or say what is needed first: call again with it.

    `state`: whether the user likes it, `base`: the video's counts, both as the database has them.
    """
    shard = _shard(shard_of(video_id))
    keys = shard.live(video_id), shard.liked(video_id, user_id), shard.pending, shard.claimed, shard.batch
    wish = "1" if liked else "0"
    known = () if state is None else (int(state),)
    script = _LIKE.command(keys, f"l:{video_id}:{user_id}", wish, at_ms, conf.LIVE_SECONDS, conf.LIKED_SECONDS, *known)
    if base is None and state is None:
        hint = _RECENT.command((_recent_key(user_id),), at_ms, video_id, 2 * conf.FLUSH_INTERVAL_SECONDS, RECENT_VIDEOS)
        code, number = _send([script, hint])[0]
    else:  # the hint is there since the first call
        code, number = _send([script] if base is None else [_prime_command(video_id, base), script])[-1]
    if code < 0:
        return Needs(state=bool(number & 1), base=bool(number & 2))
    return Liked(changed=code == 1, likes=number)


def view(events: Sequence[Event], bases: Mapping[int, Base] | None = None) -> list[tuple[str, int]]:
    """Count views, or not, in one round trip: for each event its reason and the video's views now.

    The reason is "" where nothing was done, because the video's counts are needed first: call again with its base.
    """
    by_shard: dict[int, list[int]] = {}
    for i, event in enumerate(events):
        by_shard.setdefault(shard_of(event.video_id), []).append(i)
    commands = [_prime_command(video_id, base) for video_id, base in bases.items()] if bases else []
    primed = len(commands)
    commands += [_view_command(shard, [events[i] for i in places]) for shard, places in by_shard.items()]
    results = [("", 0)] * len(events)
    for places, reply in zip(by_shard.values(), _send(commands)[primed:], strict=True):
        for i, code, views in zip(places, reply[::2], reply[1::2], strict=True):
            results[i] = ("" if code < 0 else REASONS[code], views)
    return results


def _view_command(number: int, events: Sequence[Event]) -> tuple[Any, ...]:
    shard = _shard(number)
    keys = [shard.pending, shard.batch]
    args: list[Any] = [
        conf.LIVE_SECONDS,
        conf.VIEW_WINDOW_SECONDS,
        conf.VIEW_ADDRESS_LIMIT,
        conf.VIEW_MIN_WATCHED_SECONDS,
    ]
    for video_id, viewer, hour, user_id, watched, bot, address in events:
        keys += (
            shard.live(video_id),
            shard.seen(video_id, viewer),
            shard.pending if address is None else shard.address(video_id, address),
        )
        args += (
            video_id,
            hour,
            "" if user_id is None else user_id,
            "" if watched is None else watched,
            "1" if bot else "0",
            "0" if address is None else "1",
        )
    return _VIEW.command(keys, *args)


def _prime_command(video_id: int, base: Base) -> tuple[Any, ...]:
    """Give Redis a video's counts, as the database has them."""
    shard = _shard(shard_of(video_id))
    return _PRIME.command((shard.live(video_id), shard.batch), conf.LIVE_SETTLED_SECONDS, conf.LIKED_SECONDS, *base)


def read(video_ids: Iterable[int], user_id: int | None) -> dict[int, Live]:
    """What Redis knows of these videos now, in one round trip."""
    by_shard: dict[int, list[int]] = {}
    for video_id in video_ids:
        by_shard.setdefault(shard_of(video_id), []).append(video_id)
    if not by_shard:
        return {}
    commands = []
    for number, members in by_shard.items():
        shard = _shard(number)
        keys = [shard.pending, shard.claimed, *map(shard.live, members)]
        if user_id is not None:
            keys += [shard.liked(video_id, user_id) for video_id in members]
        commands.append(_READ.command(keys, "" if user_id is None else user_id, *members))
    found = {}
    for members, reply in zip(by_shard.values(), _send(commands), strict=True):
        for video_id, likes, views, state in zip(members, reply[::3], reply[1::3], reply[2::3], strict=True):
            wish = parse_wish(state) if state is not None else None
            found[video_id] = Live(
                likes=None if likes is None else int(likes),
                views=None if views is None else int(views),
                liked=None if wish is None else wish[0],
                wished_ms=0 if wish is None else wish[1],
            )
    return found


def parse_wish(value: bytes) -> tuple[bool, int] | None:
    """The wish and its Unix milliseconds in "1:<ms>" or "0:<ms>"; None where it is neither."""
    wish, colon, at = value.partition(b":")
    if colon and wish in {b"0", b"1"} and at.isdigit() and len(at) <= 15:
        return wish == b"1", int(at)
    return None


def recent(user_id: int) -> dict[int, int]:
    """Videos whose like this user changed lately, newest first, with Unix milliseconds. A hint: it may say too much."""
    (reply,) = _send([("ZREVRANGE", _recent_key(user_id), 0, -1, "WITHSCORES")])
    return {int(video_id): int(float(at)) for video_id, at in zip(reply[::2], reply[1::2], strict=True)}


def refresh(*, video_id: int, owner: int, duration: int) -> None:
    """Take over what was edited, where the video is live."""
    _send([_REFRESH.command((_live_key(video_id),), owner, duration)])


def forget(video_id: int) -> None:
    """Remove the live key of a video that is gone; what is pending of it is dropped by the flush."""
    _send([("DEL", _live_key(video_id))])


# The clock corridor


def claim(*, shard: int, floor: int, newest: int, at_ms: int) -> Claim:
    """Claim what is pending in a shard, or find the batch that is open.

    `floor` is the highest batch number that the database knows of this shard, `newest` that of any shard.
    """
    keys = _shard(shard)
    number, last, fields, rewound, claimed_ms = _flush_call(
        _CLAIM.command((keys.pending, keys.claimed, keys.batch), floor, newest, at_ms, conf.SHARDS)
    )
    return Claim(number, last, fields, bool(rewound), claimed_ms)


def left_open(shards: Iterable[int]) -> dict[int, Claim]:
    """Batches that were claimed under another VIDEOS_SHARDS and are still open, by shard."""
    found = {}
    names = ("open", "shards", "number", "last", "fields", "rewound", "claimed_at")
    for shard in shards:
        try:
            is_open, setting, *claim = _flush_call(("HMGET", _shard(shard).batch, *names))
        except CountersUnavailable as error:
            if str(error.__cause__).startswith("WRONGTYPE"):
                continue  # no batch: the shard's own flush will say so
            raise
        if is_open == b"1" and setting is not None and int(setting) != conf.SHARDS:
            number, last, fields, rewound, claimed_ms = map(int, claim)
            found[shard] = Claim(number, last, fields, bool(rewound), claimed_ms)
    return found


def shard_total() -> int:
    """How many shards may hold changes: VIDEOS_SHARDS, or more where it has been larger."""
    reply = _flush_call(("GET", _SHARDS_KEY))
    known = 0 if reply is None else int(reply)
    if known < conf.SHARDS:
        _flush_call(("SET", _SHARDS_KEY, conf.SHARDS))
    return max(known, conf.SHARDS)


def make_durable() -> None:
    """Wait until all that this connection wrote is on disk, and on every replica that is attached.

    With `appendfsync always` the disk is done with already; WAITAOF (Redis 7.2, Valkey) makes sure under other
    settings, and WAIT is what older servers have for replicas. Raises CountersUnavailable when it takes too long.
    """
    info = _flush_call(("INFO", "replication"))
    replicas = next((int(line[17:]) for line in info.decode().splitlines() if line.startswith("connected_slaves:")), 0)
    timeout_ms = int(conf.FLUSH_DURABLE_SECONDS * 1000)
    wait = conf.FLUSH_DURABLE_SECONDS + FLUSH_TIMEOUT_SECONDS
    try:
        local, remote = _send([("WAITAOF", 1, replicas, timeout_ms)], timeout=wait)[0]
    except CountersUnavailable as error:
        if not isinstance(error.__cause__, redis.ResponseError):
            raise
        local, remote = 1, 0  # a server without WAITAOF, or without an append-only file: a system check speaks of that
        if replicas:
            remote = _send([("WAIT", replicas, timeout_ms)], timeout=wait)[0]
    if local < 1 or remote < replicas:
        raise CountersUnavailable(
            f"A claim was not durable within {conf.FLUSH_DURABLE_SECONDS} s: on disk {local} of 1, "
            f"on replicas {remote} of {replicas}. Nothing was applied; the next run goes on."
        )


def claimed(*, shard: int, number: int, at_once: int = READ_FIELDS) -> Iterator[list[tuple[bytes, bytes]] | None]:
    """The fields and values of a claimed batch, part by part, of about `at_once` fields.

    A field may come twice. None: it is no longer that batch.
    """
    keys = _shard(shard).claimed, _shard(shard).batch
    cursor: bytes | int = 0
    while True:
        reply = _flush_call(_CLAIMED.command(keys, number, cursor, at_once))
        if reply is None:
            yield None
            return
        cursor, flat = reply
        yield list(zip(flat[::2], flat[1::2], strict=True))
        if cursor in {b"0", 0}:
            return


def confirm(*, shard: int, number: int, confirmations: Iterable[Confirmation]) -> bool:
    """Remove from a claimed batch what is committed, and set the live counts from the rows.

    False: no longer that batch.
    """
    part: list[Confirmation] = []
    size = 0
    for confirmation in confirmations:
        for piece in _pieces(confirmation) if len(confirmation) > CONFIRM_FIELDS else (confirmation,):
            fields = len(piece)
            if part and size + fields > CONFIRM_FIELDS:
                if not _confirm(shard, number, part):
                    return False
                part, size = [], 0
            part.append(piece)
            size += fields
    return _confirm(shard, number, part) if part else True


def _pieces(confirmation: Confirmation) -> Iterator[Confirmation]:
    """A video with more fields than one confirm takes, in pieces; each sets the same counts."""
    for outcome in ("applied", "repeated", "dropped", "rejected"):
        fields = getattr(confirmation, outcome)
        for i in range(0, len(fields), CONFIRM_FIELDS):
            piece = Confirmation(confirmation.video_id, confirmation.counts)
            setattr(piece, outcome, fields[i : i + CONFIRM_FIELDS])
            yield piece


def _confirm(shard: int, number: int, part: Sequence[Confirmation]) -> bool:
    names = _shard(shard)
    keys = [names.claimed, names.batch, names.rejected]
    args: list[Any] = [number, conf.LIVE_SETTLED_SECONDS]
    fields: list[bytes | str] = []
    for piece in part:
        if piece.video_id is None:
            keys.append(keys[0])
            args += ("", 0, 0)
        else:
            keys.append(names.live(piece.video_id))
            args += (0, 0, 0) if piece.counts is None else (1, *piece.counts)
        applied, repeated, dropped, rejected = piece.outcomes()
        args += (len(applied), len(repeated), len(dropped), len(rejected))
        fields += (*applied, *repeated, *dropped, *rejected)
    return _flush_call(_CONFIRM.command(keys, *args, *fields)) is not None


def close(*, shard: int, number: int, end: bool) -> Sums | None:
    """The sums of a batch of which nothing is left, and, with `end`, its end.

    None: something is left, or it has ended.
    """
    keys = _shard(shard).claimed, _shard(shard).batch
    reply = _flush_call(_CLOSE.command(keys, number, int(end)))
    return None if reply is None else Sums(*reply)


def resync(*, video_id: int, last: int, base: Base | None, wishes: Sequence[Wished]) -> bool:
    """Set a video's live counts from its row, whose lock the caller holds; `base` None: the video is gone.

    False when a batch is claimed, or was since `last`: try again after it.
    """
    shard = _shard(shard_of(video_id))
    keys = [
        *(shard.live(video_id), shard.pending, shard.claimed, shard.batch),
        *(shard.liked(video_id, wish.user_id) for wish in wishes),
    ]
    args: list[Any] = [last, 0 if base is None else 1, *(base or (0, 0, 0, 0))]
    args += (conf.LIVE_SECONDS, conf.LIVE_SETTLED_SECONDS, conf.LIKED_SECONDS)
    for wish in wishes:
        args += (f"l:{video_id}:{wish.user_id}", int(wish.liked), wish.wished_ms)
    return bool(_flush_call(_RESYNC.command(keys, *args)))


def depths() -> list[Depth]:
    """How much lies in each shard, in two round trips; those left from a larger VIDEOS_SHARDS are among them."""
    (known,) = _send([("GET", _SHARDS_KEY)])
    commands = [
        ("HLEN", key)
        for shard in map(_shard, range(max(int(known or 0), conf.SHARDS)))
        for key in (shard.pending, shard.claimed, shard.rejected)
    ]
    replies = _send(commands)
    return [Depth(*replies[i : i + 3]) for i in range(0, len(replies), 3)]


def beat(at_ms: int) -> int | None:
    """Note that a run of the flush has finished, and return when one did before, both in Unix milliseconds."""
    before = _flush_call(("SET", _FLUSHED_KEY, at_ms, "GET"))
    return None if before is None else int(before)


def last_beat() -> int | None:
    """When a run of the flush last finished, in Unix milliseconds; None where Redis does not know."""
    (reply,) = _send([("GET", _FLUSHED_KEY)])
    return None if reply is None else int(reply)


def watched_since(at_ms: int) -> int:
    """When somebody first asked, in Unix milliseconds: from then on a flush that never ran is late."""
    _, reply = _send([("SET", _WATCHED_KEY, at_ms, "NX"), ("GET", _WATCHED_KEY)])
    return int(reply)


def server_facts() -> dict[str, Any]:
    """What the server is and how it is set, for checks: version, policy of eviction, append-only file, role, replicas.

    `appendfsync` is None where the server does not tell, as managed ones do not.
    """
    sections = [("INFO", section) for section in ("server", "replication", "persistence", "memory")]
    lines = b"\n".join(_send(sections, timeout=FLUSH_TIMEOUT_SECONDS)).decode().splitlines()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    appendfsync = None
    with contextlib.suppress(CountersUnavailable):
        appendfsync = _flush_call(("CONFIG", "GET", "appendfsync"))[1].decode()
    return {
        "version": facts.get("valkey_version") or facts.get("redis_version"),
        "server": facts.get("server_name", "redis"),
        "maxmemory": int(facts.get("maxmemory", 0)),
        "maxmemory_policy": facts.get("maxmemory_policy"),
        "aof_enabled": facts.get("aof_enabled") == "1",
        "appendfsync": appendfsync,
        "role": facts.get("role"),
        "connected_replicas": int(facts.get("connected_slaves", 0)),
    }
