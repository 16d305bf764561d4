"""The Lua scripts. Each is a file in lua/; what it uses of COUNTS and of `shared.lua` is put before its text."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any, Final

from videos.changes import COUNTS, MARKS, PLACES
from videos.fields import MARK_LETTER

_FOLDER = resources.files("videos.counters").joinpath("lua")


def _table(items: Iterable[str]) -> str:
    return f"{{ {', '.join(items)} }}"


# A script cannot import, so it gets COUNTS as constants. Joining the names in the script would cost a tenth of a like.
_MARKS = [f"['{mark.value}'] = {PLACES[mark.name] + 1}" for mark in MARKS]
CONSTANTS: Final = (
    f"local WIDTH = {len(COUNTS)}\n",
    f"local LIVE = {_table(repr(count.name) for count in COUNTS)}\n",
    f"local MARKS = {_table(_MARKS)}\n",
    f"local MARK = '{MARK_LETTER}'\n",
    f"local NEWEST = '{COUNTS[-1].name}'\n",
)
_NAME = re.compile(r"^local (?:function )?(\w+)", re.MULTILINE)


DEADLINE: Final = object()  # a script's last argument, for which the connection puts the deadline
LATE: Final = "LATE"  # the code of the error with which a script answers after its deadline


class Script:
    """A script, called by its SHA1. Before its text stand the constants and the parts of shared.lua that it uses."""

    def __init__(self, name: str) -> None:
        text = _FOLDER.joinpath(f"{name}.lua").read_text()
        shared = re.split(r"(?<=\n)\n", _FOLDER.joinpath("shared.lua").read_text())
        for part in reversed((*CONSTANTS, *shared[1:])):  # a table that a call does not use costs it time
            if re.search(rf"\b{_NAME.findall(part)[0]}\b", text):
                text = part + text
        self.text = text.encode()
        self.sha = hashlib.sha1(self.text, usedforsecurity=False).hexdigest()  # Redis names scripts by it

    def command(self, keys: Sequence[str], *args: Any) -> tuple[Any, ...]:
        return ("EVALSHA", self.sha, len(keys), *keys, *args)


LIKE, VIEW, PRIME, READ, RECENT = (Script(name) for name in ("like", "view", "prime", "read", "recent"))
CLAIM, CLAIMED, CONFIRM, CLOSE = (Script(name) for name in ("claim", "claimed", "confirm", "close"))
GIVE_BACK, HITS = Script("give_back"), Script("hits")
RESYNC, REFRESH, FORGET, FACTS = (Script(name) for name in ("resync", "refresh", "forget", "facts"))
MEET, KEPT, RENEW, DROP = (Script(name) for name in ("meet", "kept", "renew", "drop"))
TEXT_OF: Final = {script.sha: script.text for script in list(globals().values()) if isinstance(script, Script)}
