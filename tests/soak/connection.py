"""One HTTP connection of a soak's clients."""

import asyncio
from collections import deque
from typing import Any, Final, NamedTuple, Protocol

from servers.process import HOST
from tests.soak.book import Pair

REQUESTS: Final = 50  # of one connection; new ones spread over the workers, also after one was killed
AGENT: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"  # not taken for a bot


class Asked(NamedTuple):
    """A request that waits for its answer."""

    due: float
    kind: int
    raw: bytes
    pair: Pair  # the user is 0 for a view


class Owner(Protocol):
    """Who sends requests and takes their answers."""

    connections: set["Connection"]
    idle: deque["Connection"]

    def answered(self, asked: Asked, status: int, body: bytes, *, stored: bool) -> None:
        """Take an answer."""

    def unanswered(self, asked: Asked) -> None:
        """The connection ended first."""


class Connection(asyncio.Protocol):
    """A keep-alive connection with one request in flight."""

    def __init__(self, owner: Owner, asked: Asked) -> None:
        self.owner = owner
        self.asked: Asked | None = asked
        self.transport: Any = None
        self._received = b""
        self._left = REQUESTS

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.owner.connections.add(self)
        if self.asked is not None:
            self.transport.write(self.asked.raw)

    def ask(self, asked: Asked) -> None:
        """Send the next request."""
        self.asked = asked
        self.transport.write(asked.raw)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        _, _, rest = head.lower().partition(b"\r\ncontent-length: ")
        if len(body) < int(rest.partition(b"\r\n")[0]):
            return
        self._received = b""
        asked, self.asked = self.asked, None
        if asked is not None:
            self._left -= 1
            if self._left:
                self.owner.idle.append(self)
            else:
                self.transport.close()
            self.owner.answered(asked, int(head[9:12]), body, stored=b"\r\nx-counts: stored" in head.lower())

    def connection_lost(self, error: Exception | None) -> None:
        self.owner.connections.discard(self)
        if self in self.owner.idle:
            self.owner.idle.remove(self)
        asked, self.asked = self.asked, None
        if asked is not None:
            self.owner.unanswered(asked)


def raw_request(method: str, path: str, token: str = "", body: bytes = b"") -> bytes:
    """The bytes on the wire."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}", f"User-Agent: {AGENT}", f"Content-Length: {len(body)}"]
    lines += [f"Authorization: Bearer {token}"] if token else ["Content-Type: application/json"]
    return "\r\n".join([*lines, "", ""]).encode() + body
