"""The clients of a soak, in a process of their own: requests arrive at a rate, whether or not others are answered.

`python -m tests.soak.load FOLDER` reads FOLDER/load.json, then commands from standard input, one JSON object a line:
`{"do": "capacity", "seconds": s}`, `{"do": "arrive", "rate": r, "seconds": s}`, `{"do": "cut"}`, `{"do": "end"}`.
It writes a JSON object a line: one for each second, and one with `done` for each of the first two. At the end it
leaves FOLDER/requests (one record a request: RECORD) and FOLDER/book.pickle.

k6 keeps a rate too, but it cannot hold a user's wish back while that user's earlier one is in flight.
"""

import asyncio
import gc
import json
import os
import pickle
import sys
import time
from collections import Counter, deque
from pathlib import Path
from struct import Struct
from typing import Any, Final

from servers.process import HOST
from tests.soak.book import SETTLE_SECONDS, Book
from tests.soak.connection import Asked, Connection
from tests.soak.crowd import KINDS, Crowd

# When it was due (time.monotonic), seconds until it was answered, its place in KINDS, whether its numbers came from the
# rows, its status (0: no answer), its video and its user (0 for a view).
RECORD: Final = Struct("ddBBHqq")
CLOSED_LOOP: Final = 32  # requests in flight while the capacity is measured
IN_FLIGHT: Final = 256  # then what arrives is not sent: clients go away
ANSWER_SECONDS: Final = 30.0


class Load:
    """The clients, their book, and the sums of the present second."""

    def __init__(self, settings: dict[str, Any], requests: Path) -> None:
        self.port: int = settings["port"]
        self.crowd = Crowd(settings)
        self.book = Book()
        self.connections: set[Connection] = set()
        self.idle: deque[Connection] = deque()
        self.in_flight = 0
        self.closed_until = 0.0
        self._records = requests.open("wb", buffering=1 << 20)
        self._odd: list[str] = []  # answers that are wrong whatever happened
        self._stale: list[float] = []  # when an answer was due that showed what was true before a wish
        self._reset()

    def _reset(self) -> None:
        self._seconds: list[float] = []
        self._statuses: Counter[str] = Counter()
        self._not_sent = 0

    # What is sent

    def send(self, due: float) -> None:
        """Send one more request, unless too many wait."""
        if self.in_flight >= IN_FLIGHT:
            self._not_sent += 1
            return
        asked = self.crowd.next(due)
        self.in_flight += 1
        if self.idle:
            self.idle.pop().ask(asked)
        else:
            task = asyncio.get_running_loop().create_task(self._connect(asked))
            task.add_done_callback(lambda done: done.result())

    async def _connect(self, asked: Asked) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: Connection(self, asked), HOST, self.port)
        except OSError:
            self.crowd.busy.pop(asked.pair, None)
            self._note(asked, 0, "not connected", stored=False)

    # What came of it

    def answered(self, asked: Asked, status: int, body: bytes, *, stored: bool) -> None:
        """Take an answer into the book."""
        told = json.loads(body) if status == 200 else {}
        if asked.kind == 2:
            self._view_answered(asked, status, told)
        else:
            del self.crowd.busy[asked.pair]
            if asked.kind == 3:
                if status == 200 and told["liked"] not in self.book.possible(asked.pair):
                    self._stale.append(asked.due)
            else:
                self._wish_answered(asked, status, told)
        self._note(asked, status, f"{status}{' stored' if stored else ''}", stored=stored)
        if time.monotonic() < self.closed_until:
            self.send(time.monotonic())

    def _wish_answered(self, asked: Asked, status: int, told: dict[str, Any]) -> None:
        liked = asked.kind == 0
        if status != 200:
            self.book.leave_open(asked.pair, liked)
            return
        self.book.acknowledge_wish(asked.pair, liked)
        if told["like_count"] < liked:  # Redis learns of a like that went to the rows from the next flush
            self._stale.append(asked.due)
        if told["liked"] is not liked or told["like_count"] < 0:
            self._odd.append(f"{KINDS[asked.kind]} of {asked.pair}: {told}")

    def _view_answered(self, asked: Asked, status: int, told: dict[str, Any]) -> None:
        if status != 200:
            self.book.open_views[asked.pair[0]] += 1
        elif told["counted"]:
            self.book.views[asked.pair[0]] += 1
        else:
            self._odd.append(f"view of {asked.pair[0]} by a new viewer: {told}")

    def unanswered(self, asked: Asked) -> None:
        """The connection ended first."""
        if asked.kind == 2:
            self.book.open_views[asked.pair[0]] += 1
        else:
            # The server may execute it yet: this user waits, as the order of the two wishes would be unknown.
            self.crowd.busy[asked.pair] = time.monotonic() + SETTLE_SECONDS
            if asked.kind != 3:
                self.book.leave_open(asked.pair, asked.kind == 0)
        self._note(asked, 0, "no answer", stored=False)
        if time.monotonic() < self.closed_until:
            self.send(time.monotonic())

    def _note(self, asked: Asked, status: int, outcome: str, *, stored: bool) -> None:
        self.in_flight -= 1
        seconds = time.monotonic() - asked.due
        self._records.write(RECORD.pack(asked.due, seconds, asked.kind, stored, status, *asked.pair))
        self._seconds.append(seconds)
        self._statuses[outcome] += 1

    # The commands

    async def arrive(self, rate: float, seconds: float) -> None:
        """Requests at random moments, so many a second."""
        due = time.monotonic()
        end = due + seconds
        while due < end:
            now = time.monotonic()
            while due <= min(now, end):
                self.send(due)
                due += self.crowd.choose.expovariate(rate)
            await asyncio.sleep(0.002)
        await self._wait_for_answers()

    async def measure_capacity(self, seconds: float) -> float:
        """Requests answered a second when each is followed by the next."""
        begun = time.monotonic()
        before = self._records.tell()
        self.closed_until = begun + seconds
        for _ in range(CLOSED_LOOP):
            self.send(begun)
        await self._wait_for_answers()
        return (self._records.tell() - before) / RECORD.size / (time.monotonic() - begun)

    async def _wait_for_answers(self) -> None:
        while self.in_flight:  # noqa: ASYNC110  many requests end; an event would be set and cleared by each
            await asyncio.sleep(0.01)

    async def tick(self) -> None:
        """Each second write its sums, and give up requests that nothing has answered for long."""
        while True:
            await asyncio.sleep(1)
            now = time.monotonic()
            self._records.flush()  # tests/soak/setbacks.py reads them meanwhile
            took = sorted(self._seconds)
            say({
                "at": now, "answered": len(took), "statuses": self._statuses, "not_sent": self._not_sent,
                "p50": took[len(took) // 2] if took else None,
                "p99": took[int(len(took) * 0.99)] if took else None, "longest": took[-1] if took else None,
                "in_flight": self.in_flight,
            })  # fmt: skip
            self._reset()
            for connection in list(self.connections):
                if connection.asked is not None and now - connection.asked.due > ANSWER_SECONDS:
                    connection.transport.abort()

    def cut(self) -> None:
        """Every client goes away at once."""
        for connection in list(self.connections):
            connection.transport.abort()

    def close(self, folder: Path) -> None:
        """Leave the records and the book."""
        self._records.close()
        with (folder / "book.pickle").open("wb") as file:
            pickle.dump({"book": self.book, "odd": self._odd, "stale": self._stale}, file)


def say(line: dict[str, Any]) -> None:
    """Write one line to the parent."""
    print(json.dumps(line), flush=True)


def _end_with_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    loop.default_exception_handler(context)
    os._exit(1)  # a client that is wrong must not look like a service that does not answer


async def main(folder: Path) -> None:
    """Obey the commands, one after the other; `cut` at once."""
    load = Load(json.loads((folder / "load.json").read_text()), folder / "requests")
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_end_with_error)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    ticking = loop.create_task(load.tick())
    working: asyncio.Task[None] | None = None

    async def work(command: dict[str, Any]) -> None:
        done: dict[str, Any] = {"done": command["do"]}
        if command["do"] == "capacity":
            done["rate"] = await load.measure_capacity(command["seconds"])
        else:
            await load.arrive(command["rate"], command["seconds"])
        say(done)

    gc.freeze()
    while line := await reader.readline():
        command = json.loads(line)
        if command["do"] == "cut":
            load.cut()
        elif command["do"] == "end":
            break
        else:
            working = loop.create_task(work(command))
            working.add_done_callback(lambda done: done.result())
    ticking.cancel()
    load.close(folder)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
