"""The book of a soak's clients as of any moment of the last minutes, from the records that they write."""

import time
from collections import Counter, deque
from pathlib import Path
from typing import NamedTuple

from tests.soak.book import Book
from tests.soak.load import RECORD


class Asked(NamedTuple):
    """A request and its answer."""

    due: float  # time.monotonic
    ended: float
    kind: int  # place in crowd.KINDS
    stored: bool
    status: int
    video: int
    user: int


class Journal:
    """What the clients asked. `settle` moves what is older than any moment that will be asked for into one book."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._rest = b""
        self._recent: deque[Asked] = deque()
        self._settled = Book()
        self.requests = 0
        self.other: Counter[int] = Counter()  # answers other than 200, and those that came from the rows

    def read(self) -> None:
        """Read what was written since."""
        data = self._rest + self._file.read()
        whole = len(data) // RECORD.size * RECORD.size
        self._rest = data[whole:]
        for due, seconds, kind, stored, status, video, user in RECORD.iter_unpack(data[:whole]):
            self._recent.append(Asked(due, due + seconds, kind, bool(stored), status, video, user))
            self.requests += 1
            if status != 200 or stored:
                self.other[status] += 1

    def settle(self, before: float) -> None:
        """Forget when requests were answered that ended before this moment."""
        while self._recent and self._recent[0].ended < before:
            _enter(self._settled, self._recent.popleft())

    def at(self, begun: float, ended: float, *, told_seconds: float) -> Book:
        """The book when Redis stood still; it stopped between these two moments.

        Waits until the clients have told for so long what was answered since: what is on its way then is not known.
        """
        time.sleep(max(0.0, ended + told_seconds - time.monotonic()))
        self.read()
        book = Book(
            dict(self._settled.wishes), {pair: set(wishes) for pair, wishes in self._settled.open_wishes.items()},
            Counter(self._settled.views), Counter(self._settled.open_views),
        )  # fmt: skip
        for asked in self._recent:
            if asked.ended <= begun:
                _enter(book, asked)
            elif asked.due < ended:
                _enter(book, asked, is_open=True)
        return book


def _enter(book: Book, asked: Asked, *, is_open: bool = False) -> None:
    is_open = is_open or asked.status != 200 or asked.stored
    if asked.kind == 2:
        (book.open_views if is_open else book.views)[asked.video] += 1
    elif asked.kind < 2 and is_open:
        book.leave_open((asked.video, asked.user), asked.kind == 0)
    elif asked.kind < 2:
        book.acknowledge_wish((asked.video, asked.user), asked.kind == 0)
