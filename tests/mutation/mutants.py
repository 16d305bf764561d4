"""What a mutant is: a file with one statement changed, which still compiles."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.mutation import lua, python


@dataclass(frozen=True)
class Mutant:
    """A statement, and what stands in the place of a part of it."""

    path: str
    line: int
    last_line: int
    statement: str  # on one line, cut off
    number: int  # among the statements of this file that read the same
    kind: str
    start: int  # of the changed part, in bytes
    end: int
    text: bytes
    function: str  # in which it stands; "": it runs at import

    @property
    def place(self) -> str:
        """Its name in survivors.toml."""
        return f"{self.path}: {self.statement}"

    @property
    def key(self) -> str:
        """Its name in the results. It stays the same when lines are added elsewhere."""
        return f"{self.place} #{self.number} {self.kind}"

    def source(self, root: Path) -> bytes:
        """The text of the mutated file, which has as many lines as before."""
        whole = (root / self.path).read_bytes()
        lost = whole[self.start : self.end].count(b"\n") - self.text.count(b"\n")
        return whole[: self.start] + self.text + b"\n" * lost + whole[self.end :]


def find(root: Path, paths: Iterable[str]) -> Iterator[Mutant]:
    """The mutants of files and folders below `root`; for FILE:LINE, those of the statements that begin there."""
    for path in paths:
        name, _, line = path.partition(":")
        place = root / name
        files = [place] if place.is_file() else sorted([*place.rglob("*.py"), *place.rglob("*.lua")])
        for file in files:
            yield from (mutant for mutant in of_file(root, file) if line in {"", str(mutant.line)})


def of_file(root: Path, file: Path) -> Iterator[Mutant]:
    """The mutants of one file, from top to bottom."""
    source = file.read_bytes()
    seen: Counter[str] = Counter()
    for change in (lua if file.suffix == ".lua" else python).changes(source):
        statement = " ".join(source[change.begin : change.stop].decode().split())[:100]
        seen[statement] += 1
        yield Mutant(
            path=file.relative_to(root).as_posix(),
            line=source.count(b"\n", 0, change.begin) + 1,
            last_line=source.count(b"\n", 0, change.stop) + 1,
            statement=statement,
            number=seen[statement],
            kind=change.kind,
            start=change.start,
            end=change.end,
            text=change.text,
            function=change.function,
        )
