"""The Lua scripts. Each is a file in lua/; the names of COUNTS and `shared.lua` are put before its text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any, Final

from videos.changes import COUNTS, MARKS, PLACES
from videos.fields import MARK_LETTER

_FOLDER = resources.files("videos.counters").joinpath("lua")


def _table(items: Iterable[str]) -> str:
    return f"{{ {', '.join(items)} }}"


# A script cannot import, so it gets COUNTS as constants. Joining the names in the script would cost a tenth of a like.
_PENDING = {count.name: f"{count.name}_pending" for count in COUNTS}
COUNTS_IN_LUA: Final = f"""\
local COUNTS = {_table(map(repr, _PENDING))}
local PENDING = {_table(map(repr, _PENDING.values()))}
local LIVE = {_table(map(repr, (*_PENDING, *_PENDING.values())))}
local MARKS = {_table(f"{{ value = '{mark.value}', place = {PLACES[mark.name] + 1} }}" for mark in MARKS)}
local MARK = '{MARK_LETTER}'
"""


class Script:
    """A script, called by its SHA1."""

    def __init__(self, name: str) -> None:
        parts = (_FOLDER.joinpath(file).read_text() for file in ("shared.lua", f"{name}.lua"))
        self.text = (COUNTS_IN_LUA + "".join(parts)).encode()
        self.sha = hashlib.sha1(self.text).hexdigest()  # noqa: S324  Redis names scripts by it

    def command(self, keys: Sequence[str], *args: Any) -> tuple[Any, ...]:
        """The command that calls it."""
        return ("EVALSHA", self.sha, len(keys), *keys, *args)


LIKE, VIEW, PRIME, READ, RECENT = (Script(name) for name in ("like", "view", "prime", "read", "recent"))
CLAIM, CLAIMED, CONFIRM, CLOSE = (Script(name) for name in ("claim", "claimed", "confirm", "close"))
RESYNC, REFRESH = Script("resync"), Script("refresh")
TEXT_OF: Final = {script.sha: script.text for script in list(globals().values()) if isinstance(script, Script)}
