"""The database session of a flush, which failed transactions to retry, which errors the value of a field causes."""

import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from django.db import DataError, IntegrityError, InterfaceError, OperationalError, ProgrammingError

from videos.conf import conf
from videos.ledger.breaker import time_is_over
from videos.ledger.writer import connection, in_transaction

logger = logging.getLogger(__name__)

TRIES: Final = 8
# The server closes a session that is idle for so long, in or out of a transaction: a flush that was cut off keeps its
# locks no longer than this. By default that is 8 hours.
IDLE_SECONDS: Final = 60
DEADLOCK, LOCK_TIMEOUT = 1213, 1205  # error numbers of MySQL and MariaDB
# Their errors about a value: out of range, cut off, too long, or with characters that a column, a comparison or the
# connection cannot hold. mysqlclient raises most of them as OperationalError, as it does when the server is away.
REFUSED_VALUES: Final = frozenset({1264, 1265, 1267, 1270, 1271, 1292, 1300, 1366, 1367, 1406, 1690, 3854, 3988})
# The database, a column or a table is missing: a dump is being loaded, or `migrate` has not run. mysqlclient raises a
# missing table as ProgrammingError, as it does for wrong SQL; SQLite raises OperationalError.
MISSING: Final = frozenset({1049, 1054, 1146})

SESSION_VARIABLES: Final = ("innodb_lock_wait_timeout", "wait_timeout")
SET_VARIABLES: Final = f"SET SESSION {', '.join(f'{name} = %s' for name in SESSION_VARIABLES)}"

T = TypeVar("T")


def is_data_fault(error: Exception) -> bool:
    """Whether the value of a field caused the error, so that a retry would fail too."""
    if isinstance(error, OperationalError):
        return bool(error.args) and error.args[0] in REFUSED_VALUES
    return isinstance(error, DataError | IntegrityError | OverflowError)


def is_away(error: Exception) -> bool:
    """Whether the database does not answer, takes no writes or lacks a table, so that a later retry may succeed."""
    if isinstance(error, ProgrammingError):
        return bool(error.args) and error.args[0] in MISSING
    return isinstance(error, InterfaceError | OperationalError)


def is_lock_timeout(error: Exception) -> bool:
    """Whether another transaction held a row for longer than this session waits."""
    return isinstance(error, OperationalError) and error.args[:1] == (LOCK_TIMEOUT,)


def again(transact: Callable[[], T], *, after_timeouts: bool = True) -> T:
    """Run a transaction; retry it after a deadlock, a lock timeout or a foreign key to a deleted row. TRIES at most.

    A request does not retry once its time is over.
    """
    for attempt in range(TRIES):
        try:
            return transact()
        except (OperationalError, IntegrityError) as error:
            last = attempt == TRIES - 1 or time_is_over() or (is_lock_timeout(error) and not after_timeouts)
            if last or not _is_transient(error) or in_transaction():
                raise
            logger.debug("Again after %s", error)
            time.sleep(random.uniform(0, 0.01 * 2**attempt))  # so that writers do not retry at the same moment
    raise AssertionError("unreachable")


def _is_transient(error: Exception) -> bool:
    if isinstance(error, IntegrityError):
        return True
    return error.args[:1] == (DEADLOCK,) or is_lock_timeout(error) or "database is locked" in str(error)


@contextlib.contextmanager
def flush_session(after_each: Callable[[], None] | None = None) -> Iterator[None]:
    """Set isolation level and lock wait of this connection for a flush; restore both afterwards.

    `after_each()` is called after each statement, also within transactions. SQLite is the exception: a transaction
    there keeps all other writers out.
    """
    connection.ensure_connection()
    if in_transaction() and not connection.in_atomic_block:
        raise RuntimeError("The flush needs autocommit: without it Redis would drop what the database may roll back.")
    if connection.vendor != "mysql":
        yield
        return
    # Django replaces a failed connection, and its session settings are lost with it: so set them for each run.
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(f'@@{name}' for name in SESSION_VARIABLES)}")
        before = cursor.fetchone()
        cursor.execute(f"SET SESSION TRANSACTION ISOLATION LEVEL {conf.FLUSH_ISOLATION_LEVEL.upper()}")
        cursor.execute(SET_VARIABLES, [conf.FLUSH_LOCK_WAIT_SECONDS, IDLE_SECONDS])
    try:
        with connection.execute_wrapper(_followed_by(after_each)) if after_each else contextlib.nullcontext():
            yield
    finally:
        with contextlib.suppress(Exception), connection.cursor() as cursor:
            isolation = getattr(connection, "isolation_level", None) or "repeatable read"
            cursor.execute(f"SET SESSION TRANSACTION ISOLATION LEVEL {isolation.upper()}")
            cursor.execute(SET_VARIABLES, before)


def _followed_by(after_each: Callable[[], None]) -> Callable[..., Any]:
    def run(execute: Callable[..., Any], *statement: Any) -> Any:
        result = execute(*statement)
        after_each()
        return result

    return run
