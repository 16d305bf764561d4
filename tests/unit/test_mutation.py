"""What script/mutants changes in a statement, and that its list of survivors names statements that exist."""

from pathlib import Path

import pytest

from servers import ROOT
from tests.mutation.__main__ import FOLDERS, reasons, summary
from tests.mutation.mutants import Mutant, find, of_file

pytestmark = pytest.mark.once


def mutated(tmp_path: Path, name: str, source: str) -> list[str]:
    """The statements of a file after the change of each, in order."""
    file = tmp_path / name
    file.write_text(source)
    found = []
    for mutant in of_file(tmp_path, file):
        before, after = source.splitlines(), mutant.source(tmp_path).decode().splitlines()
        assert len(before) == len(after)
        found += [new.strip() for old, new in zip(before, after, strict=True) if old != new]
    return found


@pytest.mark.parametrize(
    ("statement", "changed"),
    [
        ("call()", "pass"),
        ("x = 3", "x = 3 + 1"),
        ("x = a if b is None else c", "x = a if b is not None else c"),
        ("x = not a", "x = bool(a)"),
        ("x = 'UPDATE t SET n = 1 WHERE n < 2'", "x = 'UPDATE t SET n = 1 WHERE n <= 2'"),
        ("return True", "return False"),
        ("return a not in b", "return a in b"),
        ("return call()", "return None"),
        ("raise ValueError", "pass"),
        ("if a and b: pass", "if not (a and b): pass"),
        ("for a in b: pass", "for a in (): pass"),
        ("with atomic(): pass", "if True: pass"),
        ("logger.info('x')", None),
        ('"""Says what it does."""', None),
        ("import os", None),
    ],
)
def test_each_statement_of_python_is_changed(tmp_path: Path, statement: str, changed: str | None) -> None:
    assert mutated(tmp_path, "a.py", f"def f():\n    {statement}\n") == ([] if changed is None else [changed])


def test_each_statement_of_lua_is_changed(tmp_path: Path) -> None:
    script = """
-- A comment.
local a, b = call({ 1,
  2 })
local n = 1
if a == 'if' then
  return b
end
for i = 1, 2 do
  a = i
end
return a >= b
"""
    assert mutated(tmp_path, "a.lua", script) == [
        "local a, b", "", "local n = 1 + 1", "if not (a == 'if') then", "do end", "for i = 1, 0 do", "do end",
        "return a < b",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def all_mutants() -> list[Mutant]:
    return list(find(ROOT, FOLDERS))


def test_every_mutant_has_its_own_name(all_mutants: list[Mutant]) -> None:
    assert len({mutant.key for mutant in all_mutants}) == len(all_mutants) > 1000


def test_each_reason_names_a_statement(all_mutants: list[Mutant]) -> None:
    assert reasons().keys() - {mutant.place for mutant in all_mutants} == set()


def test_a_survivor_without_a_reason_is_shown(all_mutants: list[Mutant]) -> None:
    mutant = next(mutant for mutant in all_mutants if mutant.place not in reasons())
    text, right = summary([mutant], {mutant.key: {"caught": ""}}, whole=False)
    assert (right, f"{mutant.path}:{mutant.line} " in text) == (False, True)
    assert summary([mutant], {mutant.key: {"caught": "a test"}}, whole=False)[1] is True
