"""Which failed transactions to retry, and which errors come from the value of a field."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

from django.db import DataError, IntegrityError, OperationalError, connection

logger = logging.getLogger(__name__)

TRIES: Final = 8
DEADLOCK, LOCK_TIMEOUT, OUT_OF_RANGE = 1213, 1205, 1690  # error numbers of MySQL and MariaDB

T = TypeVar("T")


def is_data_fault(error: Exception) -> bool:
    """Whether the value of a field caused the error, so that a retry would fail too."""
    if isinstance(error, OperationalError):
        return error.args[:1] == (OUT_OF_RANGE,)
    return isinstance(error, DataError | IntegrityError | OverflowError)


def again(transact: Callable[[], T]) -> T:
    """Run a transaction; retry it after a deadlock, a lock timeout or a foreign key to a deleted row. TRIES at most."""
    for attempt in range(TRIES):
        try:
            return transact()
        except (OperationalError, IntegrityError) as error:
            if attempt == TRIES - 1 or not _is_transient(error) or connection.in_atomic_block:
                raise
            logger.debug("Again after %s", error)
            time.sleep(random.uniform(0, 0.01 * 2**attempt))  # so that writers do not retry at the same moment
    raise AssertionError("unreachable")


def _is_transient(error: Exception) -> bool:
    if isinstance(error, IntegrityError):
        return True
    return error.args[:1] in {(DEADLOCK,), (LOCK_TIMEOUT,)} or "database is locked" in str(error)
