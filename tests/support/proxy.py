"""A TCP proxy before a server: it delays, cuts, swallows and holds back what passes."""

import contextlib
import socket
import threading
import time
from typing import Self

from servers import free_port

CHUNK = 65536


class Proxy:
    """A proxy before 127.0.0.1:`target`. Its attributes say what happens to the bytes that come next."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = free_port()
        self.delay_seconds = 0.0  # of each piece of a reply
        self.cut_replies = False  # requests reach the server; its reply cuts the connection
        self.swallow = False  # nothing passes, in either direction, and no connection ends
        self.cut_after: bytes | None = None  # requests that contain this reach the server; then the connection is cut
        self.hold: bytes | None = None  # requests that contain this wait until `deliver`, even if their client leaves
        self.held = 0
        self._delivered = threading.Event()
        self._listener: socket.socket | None = None
        self._pairs: list[tuple[socket.socket, socket.socket]] = []

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.deliver()
        self.refuse()

    def open(self) -> None:
        """Accept connections."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def refuse(self) -> None:
        """Refuse connections, and cut those that are open."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.cut()

    def cut(self) -> None:
        """Cut the open connections."""
        for pair in self._pairs:
            _end(*pair)
        self._pairs.clear()

    def heal(self) -> None:
        """Let new connections pass."""
        self.delay_seconds, self.cut_replies, self.swallow, self.cut_after, self.hold = 0.0, False, False, None, None
        if self._listener is None:
            self.open()

    def deliver(self) -> None:
        """Let go of the requests that were held back."""
        self._delivered.set()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pairs.append((client, server))
            threading.Thread(target=self._send_requests, args=(client, server), daemon=True).start()
            threading.Thread(target=self._send_replies, args=(client, server), daemon=True).start()

    def _send_requests(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(CHUNK):
                if self.hold is not None and self.hold in data:
                    self.held += 1
                    self._delivered.wait()
                if not self.swallow:
                    server.sendall(data)
                if self.cut_after is not None and self.cut_after in data:
                    break
        if not self.swallow:
            _end(client, server)

    def _send_replies(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(CHUNK):
                time.sleep(self.delay_seconds)
                if self.cut_replies:
                    break
                if not self.swallow:
                    client.sendall(data)
        if not self.swallow:
            _end(client, server)


def _end(*sockets: socket.socket) -> None:
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
