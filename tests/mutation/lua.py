"""One change for each statement of Lua, as python.py makes them; a statement may stand on several lines.

What stands in a block is deleted, a `return` too; the last `return` of a function or of a script gives another value.
"""

import re
from collections.abc import Iterator

from tests.mutation.changes import Change

TURNED = {b"==": b"~=", b"~=": b"==", b"<": b">=", b">=": b"<", b">": b"<=", b"<=": b">"}
COMPARISON = re.compile(rb"==|~=|<=|>=|<|>")
COMMENT_OR_STRING = re.compile(rb"--[^\n]*|'[^'\n]*'")
OPENED = re.compile(rb"(if|for|while|local function)\b")
NO_STATEMENT = re.compile(rb"(local function|end|else)\b|local [\w, ]+$")
Edit = tuple[int, int, bytes, str]  # from, to, text, kind


def changes(source: bytes) -> Iterator[Change]:
    """The changes of a script, from top to bottom."""
    code = COMMENT_OR_STRING.sub(lambda found: (b" " if found[0].startswith(b"--") else b"'") * len(found[0]), source)
    blocks = [b"local function"]  # what the open blocks began with
    for begin, stop in _statements(code):
        statement = code[begin:stop]
        if not NO_STATEMENT.match(statement):
            start, end, text, kind = _edit(statement, source[begin:stop], in_function=blocks[-1] == b"local function")
            yield Change(begin, stop, begin + start, begin + end, text, kind, "script")
        if opened := OPENED.match(statement):
            blocks.append(opened[0])
        elif statement.startswith(b"end"):
            blocks.pop()


def _statements(code: bytes) -> Iterator[tuple[int, int]]:
    """Where each statement begins and ends in a text whose comments and strings are blanked."""
    begin, depth, at = -1, 0, 0
    for line in code.splitlines(keepends=True):
        text = line.rstrip()
        if begin < 0 and text:
            begin = at + len(text) - len(text.lstrip())
        depth += len(re.findall(rb"[({[]", text)) - len(re.findall(rb"[)}\]]", text))
        stop = at + len(text)
        at += len(line)
        goes_on = depth or re.match(rb"\s+(and|or|\.\.)\s", code[at:])
        if begin >= 0 and text and not goes_on:
            yield begin, stop
            begin = -1


def _edit(code: bytes, text: bytes, *, in_function: bool) -> Edit:  # noqa: PLR0911  a table of cases
    if found := re.match(rb"(?:else)?if (.*) then$", code, re.DOTALL):
        return *found.span(1), b"not (" + text[found.start(1) : found.end(1)] + b")", "negated"
    if found := re.match(rb"while (.*) do$|for \w+ = (.*) do$|for [\w, ]+ in (.*) do$", code, re.DOTALL):
        place = found.lastindex or 0
        return *found.span(place), (b"", b"false", b"1, 0", b"pairs({})")[place], "no items"
    found = re.match(rb"return\b ?|(local )?[^=]+ = ", code)
    compared = list(COMPARISON.finditer(code, found.end() if found else 0))
    if compared and found:
        return *compared[-1].span(), TURNED[compared[-1][0]], "turned round"
    if found and in_function and code.startswith(b"return"):
        return found.end(), len(code), b"true" if text == b"return false" else b" nil", "other value"
    if found and found[1]:
        if code[found.end() :].isdigit():
            return len(code), len(code), b" + 1", "number"
        if code[found.end() :] == b"false":
            return found.end(), len(code), b"true", "turned round"
        return found.end() - 3, len(code), b"", "no value"
    return 0, len(code), b"do end", "deleted"  # shared.lua has no empty line within a function
