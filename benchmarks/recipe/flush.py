"""The recipe's flush: KEYS, then a GET and an UPDATE for each key, whatever has changed."""

from django.core.cache import cache
from django.db import connection, transaction

COLUMNS = {"VIDEO_LIKE": "good", "VIDEO_VIEW": "views"}


def flush(prefixes: tuple[str, ...] = ("VIDEO_LIKE", "VIDEO_VIEW"), one_transaction: bool = False) -> int:
    """Write every key's value over its row; how many keys there were.

    Autocommit is what the recipe has; with `one_transaction` it commits once, which is faster, and locks every row it
    has passed until the end.
    """
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED")
    if one_transaction:
        with transaction.atomic():
            return _write(prefixes)
    return _write(prefixes)


def _write(prefixes: tuple[str, ...]) -> int:
    done = 0
    with connection.cursor() as cursor:
        for prefix in prefixes:
            update = f"UPDATE recipe_video SET {COLUMNS[prefix]} = %s WHERE id = %s"
            for key in cache.keys(f"{prefix}::*"):  # type: ignore[attr-defined]
                cursor.execute(update, [cache.get(key), key.partition("::")[2]])
                done += 1
    return done
