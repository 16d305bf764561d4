"""The keys that name a user: to remove them when the user is deleted, and to tell the user of them.

Which videos a user liked or viewed lately is in no list, so all keys are looked through, a thousand at a time.
"""

import re
from collections.abc import Collection, Iterator
from typing import Any, Final

from videos.counters.connection import flush_call
from videos.counters.keys import recent_key

SCAN_KEYS: Final = 1000  # of one call; all other clients of Redis wait meanwhile
_NAMING: Final = re.compile(rb"\{videos:\d+\}:(?:liked:\d+:|(?:seen|dated):\d+:@)(\d+)")


def keys_of_users(user_ids: Collection[int]) -> Iterator[list[bytes]]:
    """Yield the keys that name one of these users, in lists. Raises CountersUnavailable."""
    yield [recent_key(user_id).encode() for user_id in user_ids]
    match = f"*{next(iter(user_ids))}" if len(user_ids) == 1 else "{videos:*"
    cursor: Any = 0
    while cursor not in {b"0", None}:
        cursor, names = flush_call("SCAN", cursor, "MATCH", match, "COUNT", SCAN_KEYS)
        found = [name for name in names if (user := _NAMING.fullmatch(name)) and int(user[1]) in user_ids]
        if found:
            yield found


def forget_users(user_ids: Collection[int]) -> None:
    """Remove the keys that name one of these users. Raises CountersUnavailable."""
    for names in keys_of_users(user_ids):
        flush_call("UNLINK", *names)


def traces_of_user(user_id: int) -> list[str]:
    """The names of the keys that name this user now. Raises CountersUnavailable."""
    names = [name for part in keys_of_users({user_id}) for name in part]
    return sorted(name.decode() for name in names if flush_call("EXISTS", name))
