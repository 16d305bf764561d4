"""The database as requests use it: they wait for it for a moment, and not at all while it does not answer.

The time-outs of the driver are for the flush and for commands, which may wait for half a minute. A request that waited
as long would keep a thread of the web server, and a few such requests would stop all others, also those that need no
database. So each block of work of a request has a deadline. Two threads see to it; they share their state with the
requests, so this is one file:

- The thread `watch` cuts the connection of a block that is late.
- The thread `probe` opens a connection of its own to see whether the database answers: before a late block is cut, and
  after a connection was lost. While the database does not answer, it tries again, and requests leave it alone.

Over 250 lines: requests and the two threads share one state, under one lock.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from functools import partial
from typing import Any, Final, cast

from django.db import InterfaceError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from videos.conf import conf
from videos.ledger.writer import alias

logger = logging.getLogger(__name__)

TICK_SECONDS: Final = 0.03
PROBE_SECONDS: Final = 0.2  # in which a database that works answers the probe
PROBE_TIMEOUT_SECONDS: Final = 1  # the driver takes whole seconds
PAUSE_SECONDS: Final = 0.25  # between two probes of a database that does not answer
CLIENT_ERRORS: Final = range(2000, 3000)  # numbers of errors that come from the driver: there was no answer
READ_ONLY_ERRORS: Final = frozenset({1290, 1792, 1836})  # after a failover the address may lead to another server
# A lock that somebody holds costs a request no longer than this, and a web server that was cut off inside its
# transaction loses its connection and with it its locks.
SESSION: Final = "SET SESSION innodb_lock_wait_timeout = 1, lock_wait_timeout = 1, wait_timeout = 60"


class DatabaseAway(OperationalError):
    """The database does not answer."""

    def __init__(self) -> None:
        super().__init__("The database does not answer.")
        self.__cause__ = TimeoutError()  # an error of Django's own has no cause, and callers tell them apart by that


class DatabaseReadOnly(OperationalError):
    """The database takes no writes."""

    def __init__(self) -> None:
        super().__init__(min(READ_ONLY_ERRORS), "The database takes no writes.")


class DatabaseLacksTable(OperationalError):
    """A table of the service is missing: a dump is being loaded, or `migrate` has not run."""


class _Block:
    """A thread's work with the database within a request."""

    __slots__ = ("asked_at", "deadline", "outer", "patient", "wrapper")

    def __init__(self, wrapper: BaseDatabaseWrapper, outer: _Block | None, *, patient: bool) -> None:
        self.wrapper = wrapper
        self.outer = outer
        self.patient = patient
        self.renew()

    def renew(self) -> None:
        self.deadline = time.monotonic() + conf.DATABASE_WAIT_SECONDS
        self.asked_at: float | None = None  # when the probe was asked whether the database answers

    def cut(self) -> None:
        line = getattr(self.wrapper.connection, "line", None)
        if line is not None:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)


class _Thread(threading.local):
    block: _Block | None = None
    prepared: Any = None  # the driver's connection whose session is that of requests


_thread = _Thread()
_lock = threading.Lock()
_blocks: dict[int, _Block] = {}  # by thread
_working, _asked = threading.Event(), threading.Event()
_answered_at = 0.0
_away = False
_started = False


def reset() -> None:
    """Forget all: in a process that was forked, and between tests."""
    global _lock, _away, _started, _working, _asked
    _lock, _working, _asked = threading.Lock(), threading.Event(), threading.Event()
    _blocks.clear()
    _away = _started = False


os.register_at_fork(after_in_child=reset)


def time_is_over() -> bool:
    """Whether this thread works for a request that has waited long enough."""
    block = _thread.block
    return block is not None and time.monotonic() >= block.deadline


@contextlib.contextmanager
def limited(*, patient: bool = False) -> Iterator[None]:
    """Work with the database for a request, for VIDEOS_DATABASE_WAIT_SECONDS at most. Raises DatabaseAway.

    A patient block may take longer as long as the database answers others: for searches, the admin, deletions.
    """
    wrapper, outer = connections[alias()], _thread.block
    if outer is not None and not outer.patient:
        yield
        return
    _thread.block = block = _Block(wrapper, outer, patient=patient)
    try:
        _begin(block)
        yield
    except (InterfaceError, OperationalError) as error:
        number = error.args[0] if error.args else None
        if number in CLIENT_ERRORS:
            _asked.set()
        if number in READ_ONLY_ERRORS and not wrapper.in_atomic_block:
            wrapper.close()
        raise
    finally:
        _thread.block = outer
        with _lock:
            if outer is None:
                _blocks.pop(threading.get_ident(), None)
            elif wrapper.vendor == "mysql":
                outer.renew()
                _blocks[threading.get_ident()] = outer


def _begin(block: _Block) -> None:
    wrapper = block.wrapper
    if "get_new_connection" not in vars(wrapper):
        vars(wrapper)["get_new_connection"] = partial(_connect, wrapper.vendor, wrapper.get_new_connection)
    if wrapper.vendor == "mysql":
        if not _started:
            _start()
        with _lock:
            _blocks[threading.get_ident()] = block
            _working.set()
        if _away:
            if not wrapper.in_atomic_block:
                wrapper.close()
            if not block.patient:
                raise DatabaseAway
    raw = wrapper.connection
    if raw is not None and raw is not _thread.prepared:
        try:
            _thread.prepared = _prepare(wrapper.vendor, raw)
        except cast(Any, wrapper).Database.Error:  # the connection is stale; Django opens another one
            wrapper.close()


def _prepare(vendor: str, raw: Any) -> Any:
    if vendor == "sqlite":
        raw.execute(f"PRAGMA busy_timeout = {int(conf.DATABASE_WAIT_SECONDS * 1000)}")
    elif vendor == "mysql":
        # A descriptor of our own: shutting down the driver's could hit another socket if its thread closes it just now.
        # mysqlclient keeps the number of a descriptor that it closed when it lost the server: there may be none, or a
        # stranger's. Such a connection is not kept, because its next statement fails.
        with contextlib.suppress(AttributeError, OSError):  # a connection of another driver is not cut
            raw.line = socket.fromfd(raw.fileno(), socket.AF_INET, socket.SOCK_STREAM)
            weakref.finalize(raw, raw.line.close)
        with contextlib.closing(raw.cursor()) as cursor:
            cursor.execute(SESSION)
    return raw


def _connect(vendor: str, connect: Callable[[Any], Any], parameters: Any) -> Any:
    """Open a connection in another thread, because nothing can cut the driver short while it connects."""
    global _away
    block = _thread.block
    if block is None:
        return connect(parameters)
    if vendor != "mysql":
        _thread.prepared = _prepare(vendor, connect(parameters))
        return _thread.prepared
    if _away:
        raise DatabaseAway
    future: Future[Any] = Future()
    threading.Thread(target=_open, args=(future, connect, parameters), name="videos-connect", daemon=True).start()
    wait_seconds = conf.DATABASE_WAIT_SECONDS if block.patient else block.deadline - time.monotonic()
    try:
        _thread.prepared = raw = future.result(max(0.0, wait_seconds))
    except FutureTimeout as error:
        future.add_done_callback(_close)
        _asked.set()
        with _lock:  # the block ends here, before the watch judges it: a request may begin another one
            if block.asked_at is not None and _answered_at < block.asked_at:
                _away = True
        raise DatabaseAway from error
    return raw


def _open(future: Future[Any], connect: Callable[[Any], Any], parameters: Any) -> None:
    try:
        raw = _prepare("mysql", connect(parameters))
    except Exception as error:  # noqa: BLE001  raised where the result is read
        future.set_exception(error)
    else:
        future.set_result(raw)


def _close(future: Future[Any]) -> None:
    if future.exception() is None:
        future.result().close()


def _start() -> None:
    global _started
    with _lock:
        if not _started:
            _started = True
            for act in (_watch, _probe):
                threading.Thread(target=act, args=(_working, _asked), name=f"videos{act.__name__}", daemon=True).start()


def _watch(working: threading.Event, asked: threading.Event) -> None:
    while working.wait():
        time.sleep(TICK_SECONDS)
        with _lock:
            if not _blocks:
                working.clear()
            for block in _blocks.values():
                _judge(block, time.monotonic(), asked)


def _judge(block: _Block, now: float, asked: threading.Event) -> None:
    global _away
    if block.asked_at is None:
        if now >= block.deadline - PROBE_SECONDS:
            block.asked_at = now
            asked.set()
    elif now >= max(block.deadline, block.asked_at + PROBE_SECONDS):
        _away = _away or _answered_at < block.asked_at
        if not block.patient:
            block.cut()
        elif not _away:
            block.renew()
    if _away:
        block.cut()


def _probe(working: threading.Event, asked: threading.Event) -> None:
    global _answered_at, _away
    while asked.wait():
        asked.clear()
        error = _try()
        if error is None:
            if _away:
                logger.warning("The database answers again")
            _answered_at, _away = time.monotonic(), False
        else:
            if not _away:
                logger.warning("The database does not answer, requests leave it alone: %s", error)
            _away = True
            asked.set()
            time.sleep(PAUSE_SECONDS)


def _try() -> Exception | None:
    """Connect once. Returns the error if the database does not answer; an error of its own is an answer."""
    wrapper = connections[alias()]
    names = ("connect_timeout", "read_timeout", "write_timeout")
    try:
        parameters = wrapper.get_connection_params() | dict.fromkeys(names, PROBE_TIMEOUT_SECONDS)
        with contextlib.closing(wrapper.get_new_connection(parameters)) as raw:
            raw.ping()
    except Exception as error:  # noqa: BLE001  of the driver, which Django has not wrapped here
        return error if error.args and error.args[0] in CLIENT_ERRORS else None
    return None
