"""A change of a file's text, and what changes of Python, Lua and SQL share."""

import re
from typing import NamedTuple


class Change(NamedTuple):
    """Of the statement from `begin` to `stop` (bytes), the part from `start` to `end` becomes `text`."""

    begin: int
    stop: int
    start: int
    end: int
    text: bytes
    kind: str
    function: str = ""


# The first that stands in a statement of SQL is changed where it stands last.
SQL = ((b" < ", b" <= "), (b" + ", b" - "), (b" AND ", b" OR "), (b" = ", b" <> "), (b"DESC", b"ASC"))


def change_sql(text: bytes) -> bytes | None:
    """A statement of SQL with another comparison or sum; None for other texts."""
    if re.search(rb"\b(SELECT|UPDATE|INSERT|WHERE|AND|SET)\b", text):
        for old, new in SQL:
            if old in text:
                before, _, after = text.rpartition(old)
                return before + new + after
    return None
