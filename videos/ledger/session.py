"""The database session of a flush: isolation level, lock wait, and a call after each statement."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from django.db import connection

from videos.conf import conf


@contextlib.contextmanager
def flush_session(after_each: Callable[[], None] | None = None) -> Iterator[None]:
    """Set isolation level and lock wait of this connection for a flush; restore both afterwards.

    `after_each()` is called after each statement, also within transactions. SQLite is the exception: a transaction
    there keeps all other writers out.
    """
    if connection.vendor != "mysql":
        yield
        return
    connection.ensure_connection()
    # Django replaces a failed connection, and its session settings are lost with it: so set them for each run.
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@innodb_lock_wait_timeout")
        (lock_wait,) = cursor.fetchone()
        cursor.execute(f"SET SESSION TRANSACTION ISOLATION LEVEL {conf.FLUSH_ISOLATION_LEVEL.upper()}")
        cursor.execute("SET SESSION innodb_lock_wait_timeout = %s", [conf.FLUSH_LOCK_WAIT_SECONDS])
    try:
        with connection.execute_wrapper(_followed_by(after_each)) if after_each else contextlib.nullcontext():
            yield
    finally:
        with contextlib.suppress(Exception), connection.cursor() as cursor:
            isolation = getattr(connection, "isolation_level", None) or "repeatable read"
            cursor.execute(f"SET SESSION TRANSACTION ISOLATION LEVEL {isolation.upper()}")
            cursor.execute("SET SESSION innodb_lock_wait_timeout = %s", [lock_wait])


def _followed_by(after_each: Callable[[], None]) -> Callable[..., Any]:
    def run(execute: Callable[..., Any], *statement: Any) -> Any:
        result = execute(*statement)
        after_each()
        return result

    return run
