"""The database that the service writes to: the one that DATABASE_ROUTERS name for writing a video.

The service reads from it too. A router may send other reads to a replica, and a replica lags: a live key that is made
from an old row is wrong, and a client would not find what it has just written. So this package uses no manager and no
connection but those of this module.
"""

from contextlib import AbstractContextManager
from typing import Any, TypeVar

from django.db import connections, router
from django.db import transaction as transactions
from django.db.models import Model, QuerySet

from videos.models import Video

M = TypeVar("M", bound=Model)


def alias() -> str:
    """The database's alias in DATABASES."""
    return router.db_for_write(Video)


def rows(model: type[M]) -> QuerySet[M]:
    """All rows of a model."""
    return model._default_manager.using(alias())


def atomic(*, durable: bool = False) -> AbstractContextManager[None]:
    """A transaction. A `durable` one is refused within another one."""
    return transactions.atomic(using=alias(), durable=durable)


def in_transaction() -> bool:
    """Whether this thread's connection is in a transaction of a caller, who will commit it or roll it back."""
    return connection.in_atomic_block or (connection.connection is not None and not connection.get_autocommit())


def roll_back() -> None:
    """Let the current transaction end without a commit."""
    transactions.set_rollback(True, using=alias())


def drop_stale_connection() -> None:
    """Close this thread's connection if it is broken or older than CONN_MAX_AGE, but never under a transaction.

    Django does so when its handler begins and ends a request; the express lane does not call that handler.
    """
    if not in_transaction():
        connection.close_if_unusable_or_obsolete()


def disconnect() -> None:
    """Close this thread's connection. The next statement opens a new one."""
    connection.close()


class _Connection:
    """This thread's connection."""

    def __getattr__(self, name: str) -> Any:
        return getattr(connections[alias()], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(connections[alias()], name, value)


connection: Any = _Connection()
