"""The database as the services use it: an outage is raised as Unavailable."""

import contextlib
from collections.abc import Iterator
from typing import Final

from django.db import InterfaceError, OperationalError, close_old_connections

from videos import ledger
from videos.changes import Changes, Totals
from videos.services.outcomes import Unavailable, UserNotFound, VideoNotFound

SCRIPT_TRIES: Final = 5  # of a script that lacks facts; they are read from the database in between


@contextlib.contextmanager
def database(*, patient: bool = False) -> Iterator[None]:
    """Work with a connection that is neither broken nor too old. Raises Unavailable when the database is away.

    It takes VIDEOS_DATABASE_WAIT_SECONDS at most; if it is `patient`, longer as long as the database answers others.
    Django closes old connections when its handler begins and ends a request. The express lane does not call that
    handler, so it is done here.
    """
    try:
        with ledger.limited(patient=patient):
            close_old_connections()
            yield
    except (InterfaceError, OperationalError) as error:
        raise Unavailable from error


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
