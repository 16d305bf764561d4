"""The grammar of Redis' pending hash: how a change is written as a field with a value, and parsed.

    l:42:9       1:1767225600000    user 9 likes video 42, at this Unix millisecond; 2: dislikes it; 0: neither
                 1:1767225600000:s0 the same, and the field stays: Redis is not sure of the state before it, 0
                 2:1767225600000:s1 replaces a like: without ":s", 1 and 2 replace 0, and 0 replaces 1
    v:42:491000  17                 video 42 gained 17 views in this hour since 1970
    w:42:491000  900                … and 900 seconds watched

Batch 8 postponed the video, because its row was locked. So its fields went back to pending, with the batch's number:

    l:42:9       1:1767225600000:s0b8
    v:42:491000:8  17

The letter is that of the count in COUNTS. Parsing accepts exactly the form that is written: another spelling of the
same number, such as a leading zero, would be a second field for the same thing.
"""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from videos.changes import COUNTS, HOUR_MS, LIKE, MARKS, MAX_ID, NOTHING, TALLIES, Changes, MarkChange, TallyChange

MAX_AMOUNT: Final = 2**53  # of one field: Lua's numbers are exact up to here
MAX_HOUR: Final = 8_000 * 8_766  # the year 9970: every database holds this date
MAX_MS: Final = MAX_HOUR * HOUR_MS
POSTPONED: Final = b"postponed:"  # and a video

MARK_LETTER: Final = MARKS[0].letter  # all marks of a user about a video are values of one field
LETTERS: Final = {count.name: count.letter for count in COUNTS}
VALUES: Final = frozenset({NOTHING, *(count.value for count in MARKS)})

_MARK: Final = re.compile(rf"{MARK_LETTER}:([1-9]\d{{0,18}}):([1-9]\d{{0,18}})".encode())
_TALLY: Final = re.compile(
    f"([{''.join(count.letter for count in TALLIES)}])".encode()
    + rb":([1-9]\d{0,18}):(0|[1-9]\d{0,8})(?::([1-9]\d{0,15}))?"
)
_TALLY_NAMES: Final = {count.letter.encode(): count.name for count in TALLIES}
# In liked keys a stamp follows, which only scripts read.
_STATE_TEXT: Final = re.compile(rb"(0|[1-9]\d?):(0|[1-9]\d{0,14})(?::s?\d{1,16}(?:b([1-9]\d{0,15}))?)?")
_STAYS: Final = re.compile(rb"\d+:\d+:s(\d+)")
_AMOUNT: Final = re.compile(rb"[1-9]\d{0,15}")
_VIDEO: Final = re.compile(rb"[a-z]:([1-9]\d{0,18})(?!\d)")


class State(NamedTuple):
    """The value of a mark, and the time of the wish."""

    value: int
    at_ms: int  # Unix milliseconds


def mark_field(video_id: int, user_id: int | str) -> str:
    """The name of a mark's field; with `*` as user, the pattern of the fields of a video."""
    return f"{MARK_LETTER}:{video_id}:{user_id}"


def field_names(video_id: int, changes: Changes) -> list[str]:
    """The names of the fields that hold these changes of a video."""
    names = [
        f"{LETTERS[name]}:{video_id}:{hour}:{batch}" if batch else f"{LETTERS[name]}:{video_id}:{hour}"
        for name, hour, _, batch in changes.tallies
    ]
    return names + [mark_field(video_id, mark.user_id) for mark in changes.marks] if changes.marks else names


def parse_state(text: bytes) -> State | None:
    """Parse `1:<ms>`; None for any other text."""
    match = _STATE_TEXT.fullmatch(text)
    return None if match is None else State(int(match[1]), int(match[2]))


def replaced_value(text: bytes) -> int:
    """The value that a pending mark replaced, as `base_of` of shared.lua tells it."""
    stays = _STAYS.match(text)
    return int(stays[1]) if stays else LIKE if text.startswith(b"0") else NOTHING


def parse(name: bytes, value: bytes) -> tuple[int, MarkChange | TallyChange] | None:
    """Parse a field into video id and change; None if it is malformed."""
    if match := _MARK.fullmatch(name):
        state = _STATE_TEXT.fullmatch(value)
        if state is None:
            return None
        video_id, mark = int(match[1]), MarkChange(int(match[2]), int(state[1]), int(state[2]), int(state[3] or 0))
        if mark.value not in VALUES or mark.at_ms > MAX_MS or max(video_id, mark.user_id) > MAX_ID:
            return None
        return video_id, mark
    if (match := _TALLY.fullmatch(name)) and _AMOUNT.fullmatch(value):
        letter, video, hour, batch = match.groups()
        change = TallyChange(_TALLY_NAMES[letter], int(hour), int(value), int(batch or 0))
        if int(video) <= MAX_ID and change.hour <= MAX_HOUR and change.amount <= MAX_AMOUNT:
            return int(video), change
    return None


def sort_in(part: Iterable[tuple[bytes, bytes]], changes: dict[int, Changes], malformed: list[bytes]) -> None:
    """Parse fields into the changes of their videos. Names of malformed fields are added to `malformed`."""
    for name, value in part:
        parsed = parse(name, value)
        if parsed is None:
            malformed.append(name)
            continue
        video_id, change = parsed
        known = changes.get(video_id)
        if known is None:
            known = changes[video_id] = Changes()
        known.add(change)


def postponed_videos(names: Iterable[bytes]) -> list[int]:
    """The videos that a batch postponed. What is kept of it has fields of their names."""
    return [int(name.removeprefix(POSTPONED)) for name in names if name.startswith(POSTPONED)]


def video_of(name: bytes) -> int | None:
    """The video id in a malformed field; None if there is none."""
    match = _VIDEO.match(name)
    return int(match[1]) if match and int(match[1]) <= MAX_ID else None
