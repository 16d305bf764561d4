"""The database as the services use it: an outage is raised as Unavailable."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from django.db import DataError, Error, OperationalError, connections
from django.db import transaction as transactions

from videos import ledger
from videos.changes import Changes, Totals
from videos.services.outcomes import Unavailable, UserNotFound, ValueRefused, VideoNotFound

View = TypeVar("View", bound=Callable[..., Any])

SCRIPT_TRIES: Final = 5  # of a script that lacks facts; they are read from the database in between


@contextlib.contextmanager
def database(*, patient: bool = False) -> Iterator[None]:
    """Work with a connection that is neither broken nor too old.

    It takes VIDEOS_DATABASE_WAIT_SECONDS at most; if it is `patient`, longer as long as the database answers others.
    Raises Unavailable when the database is away or lacks a table, ValueRefused when it cannot hold or compare a value.
    """
    try:
        with ledger.limited(patient=patient):
            ledger.drop_stale_connection()
            yield
    except Error as error:
        if refuses_value(error):
            raise ValueRefused from error
        if is_away(error):
            raise Unavailable from error
        raise


def refuses_value(error: Exception) -> bool:
    """Whether the database says that it cannot hold or compare a value; a retry would fail too."""
    return isinstance(error, DataError | OperationalError) and ledger.is_data_fault(error)


def is_away(error: Exception) -> bool:
    """Whether the database does not answer, takes no writes or lacks a table."""
    return ledger.is_away(error)


def own_transactions(view: View) -> View:
    """Exempt a view from ATOMIC_REQUESTS.

    Its services commit what they write. A transaction around the view would hold their locks until the answer is made,
    and rolling it back would not roll back Redis.
    """
    for alias in connections:
        transactions.non_atomic_requests(alias)(view)
    return view


def whole_request() -> contextlib.AbstractContextManager[None]:
    """Let a request that Django's handler answers wait for the database only as long as it answers others."""
    return ledger.limited(patient=True)


def write_direct(video_id: int, changes: Changes) -> Totals:
    """Write changes of a video to the rows while Redis is away. Raises VideoNotFound, UserNotFound, Unavailable."""
    with database():
        outcome = ledger.write_direct({video_id: changes})[video_id]
    if outcome.totals is None:
        raise VideoNotFound
    if outcome.dropped:
        raise UserNotFound
    return outcome.totals
