"""Connections to the counters' Redis: one for each thread, the meaning of a refusal, and the pause after a failure.

A new connection to another run of Redis first has it meet the database (videos/meeting.py): Redis may be older now.

redis-py opens connections (TLS, credentials, database number, Sentinel) and reads replies. Its command layers and its
pool are not used, because they took as long as the server's answer.

Over 250 lines: deadline, meeting and pause guard the one way to Redis, and none of them may be passed by.
"""

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias

import redis
from django.core.signals import setting_changed
from django_redis import get_redis_connection
from hiredis import pack_command

from videos.changes import VideosError
from videos.conf import conf
from videos.counters import clock, keys, memory, scripts

logger = logging.getLogger(__name__)

FLUSH_TIMEOUT_SECONDS: Final = 10.0  # a flush's script handles thousands of fields; a request's handles one
REQUEST_TIMEOUT_SECONDS: Final = 0.25  # where CACHES sets none
# A connection that answered within this time is not checked before use: a check takes a tenth of a like's CPU time. If
# the server dies within this time, the next command fails and counts as uncertain.
FRESH_SECONDS: Final = 0.05
MEETINGS: Final = 3  # tried for one call, if Redis is started anew meanwhile
PROTOCOL: Final = 2  # version of RESP: callers of the scripts rely on its reply types
# Error codes with which a server refuses a script before it executes anything of it.
REFUSALS: Final = frozenset({
    *("MISCONF", "NOREPLICAS", "BUSY", "OOM", "READONLY", "NOPERM", "NOAUTH", "WRONGPASS"),
    *("CLUSTERDOWN", "MASTERDOWN", "MOVED", "ASK", "TRYAGAIN", "CROSSSLOT", "LOADING", "UNMET", scripts.LATE),
})  # fmt: skip
# Error codes of a server that takes no writes, or no longer: the next call must look up the address again. LATE: its
# clock may have been set, so the next call must read it again.
WRONG_SERVER: Final = frozenset({"READONLY", "MASTERDOWN", "CLUSTERDOWN", "MOVED", "ASK", scripts.LATE})


Paired: TypeAlias = tuple[str | None, ...]  # the identity, and VIDEOS_SHARDS as text


class CountersUnavailable(VideosError):
    """The counters' Redis did not answer."""

    def __init__(self, message: str | None = None, *, uncertain: bool = False, code: str = "") -> None:
        super().__init__(message)
        self.uncertain = uncertain  # Redis may have executed the commands
        self.code = code  # of the server's error, such as OOM; "" if it did not answer


class Unmet(CountersUnavailable):
    """Another meeting of Redis and the database took place since this flush began: it begins again."""


class CountersMismatch(CountersUnavailable):
    """This Redis belongs to another database, or to another VIDEOS_SHARDS."""


@lru_cache(maxsize=1)
def _pool(alias: str, generation: int) -> Any:
    return get_redis_connection(alias).connection_pool


def make_connection(*, for_flush: bool) -> Any:
    """A connection that is not connected yet. Raises TypeError or ValueError if it does not know an option."""
    with _connecting:  # without the lock, threads that start together would each make a pool
        pool = _pool(conf.COUNTERS_ALIAS, _generation)
    # Callers rely on these two, so they override CACHES.
    options = pool.connection_kwargs | {"protocol": PROTOCOL, "decode_responses": False}
    if not options.get("ssl", True):
        del options["ssl"]  # only connections with TLS know this option; the scheme rediss:// asks for it
    for name in ("socket_timeout", "socket_connect_timeout"):
        options[name] = FLUSH_TIMEOUT_SECONDS if for_flush else options.get(name) or REQUEST_TIMEOUT_SECONDS
    return pool.connection_class(**options)


class Lease:
    """A connection to the counters' Redis that belongs to one thread."""

    def __init__(self, owner: tuple[int, int], *, for_flush: bool) -> None:
        self.owner = owner  # the process and the generation of settings that it was made for
        self.connection: Any = make_connection(for_flush=for_flush)
        self._clock = None if for_flush else clock.Clock()  # a flush's scripts have no deadlines
        self.wait_seconds: float = self.connection.socket_timeout
        self._connect()

    def _connect(self) -> None:
        self.connection.connect()
        self._answered_at: float | None = time.monotonic()  # None while replies are outstanding
        self._run: str | None = None
        self.pairing: Paired | None = None  # what this connection found, until it is compared
        self._read_clock()

    def run(self) -> str:
        """The server's run id; "" if it hides that. Raises redis.RedisError, OSError."""
        if self._run is None:
            info, *pairing = self.ask([("INFO", "server"), ("GET", keys.IDENTITY), ("GET", keys.SHARDS)], None)
            self.pairing = tuple(value.decode() if isinstance(value, bytes) else None for value in pairing)
            found = _RUN_ID.search(info) if isinstance(info, bytes) else None
            self._run = found[1].decode() if found else ""
        return self._run

    def make_ready(self) -> None:
        """Reconnect if the server closed the connection, or if a signal's exception left a reply unread.

        Call it before sending. Raises redis.RedisError, OSError.
        """
        connection, answered_at = self.connection, self._answered_at
        try:
            if (
                connection.is_connected
                and answered_at is not None
                and (time.monotonic() - answered_at < FRESH_SECONDS or not connection.can_read(timeout=0))
            ):
                self._read_clock()
                return
        except redis.ConnectionError:
            pass
        self.disconnect()
        self._connect()

    def disconnect(self) -> None:
        """Close the socket: the next call connects again, perhaps to another server."""
        self.connection.disconnect()
        if self._clock is not None:
            self._clock.distrust()

    def _read_clock(self) -> None:
        if self._clock is not None and not self._clock.is_fresh():
            self._answered_at = None
            self._answered_at = self._clock.read(self.connection)

    def ask(self, commands: Sequence[tuple[Any, ...]], wait_seconds: float | None) -> list[Any]:
        """Send commands together and return their replies; an error of the server counts as a reply.

        Raises redis.RedisError and OSError when the connection fails.
        """
        connection, self._answered_at = self.connection, None
        if self._clock is not None:
            commands = self._clock.with_deadlines(commands, self.wait_seconds)
        connection.send_packed_command([b"".join([pack_command(part) for part in commands])], check_health=False)
        timeout = {} if wait_seconds is None else {"timeout": wait_seconds}
        replies: list[Any] = []
        for _ in commands:
            try:
                replies.append(connection.read_response(**timeout))
            except redis.ResponseError as error:
                replies.append(error)
        self._answered_at = time.monotonic()
        return replies


class _ThreadLeases(threading.local):
    """This thread's connections: one for requests, and one for a flush, with a longer time-out."""

    request: Lease | None = None
    flush: Lease | None = None
    asked_for_request = False  # whether the last command was a request's


_RUN_ID: Final = re.compile(rb"run_id:(\w+)")
_connecting = threading.Lock()
_meeting = threading.Lock()
_meet: Callable[[str], Paired] | None = None
_met_run = ""  # the run of Redis that this process knows to have met the database
_met_pairing: Paired | None = None  # what both said then
_leases = _ThreadLeases()
_generation = 0  # grows when the settings change, so that no thread keeps a connection to the old server
_away_until = 0.0  # on time.monotonic(); 0 while Redis answers
_is_cluster = False  # whether the server has refused a script because its keys are of several slots


def forget_connections(*, setting: str = "CACHES", **_: Any) -> None:
    """Let each thread connect anew at its next call, and meet."""
    global _generation, _away_until, _met_run, _is_cluster
    if setting in {"CACHES", "DATABASES", "VIDEOS_COUNTERS_ALIAS", "VIDEOS_SHARDS"}:
        _generation += 1
        _away_until = 0.0
        clock.forget()
        memory.forget()
        _met_run = ""
        _is_cluster = False


setting_changed.connect(forget_connections, dispatch_uid="videos.counters")


def _connected(*, for_flush: bool) -> Lease:
    owner = os.getpid(), _generation
    lease = _leases.flush if for_flush else _leases.request
    if lease is not None and lease.owner == owner:
        lease.make_ready()
        return lease
    lease = Lease(owner, for_flush=for_flush)
    if for_flush:
        _leases.flush = lease
    else:
        _leases.request = lease
    return lease


def code_of(error: Exception) -> str:
    """The code of a server's error, such as READONLY. redis-py moves known codes from the text to an attribute."""
    return getattr(error, "status_code", None) or str(error).partition(" ")[0]


def send(commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Send a request's commands in one round trip and return their replies.

    Only a script that the server did not know is sent twice. Raises CountersUnavailable, without calling Redis if the
    last failure is less than VIDEOS_REDIS_PAUSE_SECONDS ago.
    """
    if _away_until and time.monotonic() < _away_until:
        raise CountersUnavailable
    return exchange(commands, for_flush=False)


def flush_call(*command: Any, wait_seconds: float | None = None) -> Any:
    """Send one command of a flush and return its reply, with a longer time-out and without the pause after a failure.

    Raises CountersUnavailable.
    """
    return exchange([command], for_flush=True, wait_seconds=wait_seconds)[0]


def flush_calls(commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Send commands of a flush in one round trip and return their replies. Raises CountersUnavailable."""
    return exchange(commands, for_flush=True) if commands else []


def is_cluster() -> bool:
    """Whether the server is known to run in cluster mode, as MemoryDB does: a script's keys must be of one slot."""
    return _is_cluster


def asked_for_request() -> bool:
    """Whether this thread uses Redis for a request now, rather than for a flush or a command."""
    return _leases.asked_for_request


def on_new_run(meet: Callable[[str], Paired]) -> None:
    """Call `meet(run)` before this process uses a run of Redis; it returns the pairing of both.

    It uses `exchange` with `meeting`.
    """
    global _meet
    _meet = meet


def meet(run: str, *, again: bool = False) -> None:
    """Have this run of Redis meet the database, once in this process, or `again`. Raises CountersUnavailable."""
    global _met_run, _met_pairing, _away_until
    if run == _met_run and not again:
        return
    with _meeting:
        if _meet is None or (run == _met_run and not again):
            return
        if asked_for_request() and time.monotonic() < _away_until:  # another thread has just tried
            raise CountersUnavailable
        try:
            _met_pairing = _meet(run)
        except Unmet:
            raise
        except CountersUnavailable:
            _away_until = time.monotonic() + conf.REDIS_PAUSE_SECONDS
            raise
        _met_run = run


def meet_now() -> None:
    """Have the run of Redis that a flush is connected to meet the database. Raises CountersUnavailable."""
    _leases.asked_for_request = False
    try:
        run = _connected(for_flush=True).run()
    except (redis.RedisError, OSError) as error:
        raise _pause_after(error, uncertain=False) from error
    meet(run, again=True)


def exchange(
    commands: Sequence[tuple[Any, ...]],
    *,
    for_flush: bool,
    wait_seconds: float | None = None,
    meeting: str | None = None,
) -> list[Any]:
    """Send commands and return their replies, for `send` and `flush_call`: no command takes another way to Redis.

    `meeting` is for the commands of a meeting, which come before it: the run that it is about, or "" for any.
    """
    global _is_cluster
    if meeting is None:
        _leases.asked_for_request = not for_flush
    lease, run = _lease_of_a_run(for_flush=for_flush, meeting=meeting)
    replies = _ask(lease, commands, wait_seconds)
    if commands and commands[-1] is memory.QUESTION:
        memory.note(replies.pop())
    unmet = [place for place, reply in enumerate(replies) if isinstance(reply, Exception) and code_of(reply) == "UNMET"]
    if unmet and for_flush:
        raise Unmet
    if unmet:  # this Redis was emptied
        meet(run, again=True)
        for place, reply in zip(unmet, _ask(lease, [commands[place] for place in unmet], wait_seconds), strict=True):
            replies[place] = reply
    for reply in replies:
        if isinstance(reply, Exception):
            if code_of(reply) in WRONG_SERVER:
                lease.disconnect()
            # One shard may have counted while another refused: retrying the whole call elsewhere would count twice.
            uncertain = not all(map(_moved_nothing, replies))
            code = code_of(reply)
            if code == "OOM":
                memory.note_refusal()
            _is_cluster |= code == "CROSSSLOT"
            raise CountersUnavailable(
                f"The counters' Redis: {code}: {reply}", uncertain=uncertain, code=code
            ) from reply
    return replies


def _lease_of_a_run(*, for_flush: bool, meeting: str | None) -> tuple[Lease, str]:
    """A connection and its run of Redis, which has met the database."""
    for _ in range(MEETINGS):
        try:
            lease = _connected(for_flush=for_flush)
            run = lease.run()
        except (redis.RedisError, OSError) as error:
            raise _pause_after(error, uncertain=False) from error
        if meeting is not None:
            if meeting in {"", run}:
                return lease, run
            lease.disconnect()  # the address leads to another server by now, and this connection is older
            continue
        try:
            if run:  # each new connection compares: adopt_counters closes all, and joins Redis to another database
                meet(run, again=lease.pairing not in {None, _met_pairing})
                lease.pairing = None
        except Unmet:  # Redis was started anew meanwhile
            lease.disconnect()
        else:
            return lease, run
    raise Unmet


def _ask(lease: Lease, commands: Sequence[tuple[Any, ...]], wait_seconds: float | None) -> list[Any]:
    """The replies to commands; scripts that the server did not know are loaded and sent again."""
    begun = time.monotonic()
    try:
        replies = lease.ask(commands, wait_seconds)
        unknown = [place for place, reply in enumerate(replies) if isinstance(reply, redis.exceptions.NoScriptError)]
        if unknown:
            again = [commands[place] for place in unknown]
            begun = time.monotonic()
            loads = [("SCRIPT", "LOAD", scripts.TEXT_OF[sha]) for sha in {command[1] for command in again}]
            for place, reply in zip(unknown, lease.ask([*loads, *again], wait_seconds)[len(loads) :], strict=True):
                replies[place] = reply
    except (redis.RedisError, OSError) as error:
        lease.disconnect()  # redis-py raises some refusals as broken connections: LOADING, NOAUTH
        uncertain = code_of(error) not in REFUSALS
        failure = _pause_after(error, uncertain=uncertain)
        if uncertain and any(command[-1] is scripts.DEADLINE for command in commands):
            # A script that is still on its way does nothing after its deadline: only then may the caller act otherwise.
            time.sleep(max(0.0, begun + lease.wait_seconds - time.monotonic()))
        raise failure from error
    return replies


def _pause_after(error: Exception, *, uncertain: bool) -> CountersUnavailable:
    global _away_until
    _away_until = time.monotonic() + conf.REDIS_PAUSE_SECONDS
    logger.warning("Redis is left alone for %s s: %s: %s", conf.REDIS_PAUSE_SECONDS, type(error).__name__, error)
    return CountersUnavailable(f"The counters' Redis: {error}", uncertain=uncertain)


def _moved_nothing(reply: Any) -> bool:
    """Whether this reply proves that its command changed no count."""
    if isinstance(reply, Exception):
        return code_of(reply) in REFUSALS
    # prime.lua replies None. Where they lack something, like.lua has {-1, needs, version}, view.lua {-1, version, ...}.
    lacking = isinstance(reply, list) and reply[0] == -1 and (len(reply) % 2 == 1 or set(reply[::2]) == {-1})
    return reply is None or lacking
