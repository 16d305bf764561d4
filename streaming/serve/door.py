"""How a request begins, waits for its body, waits for a thread, and is answered."""

from __future__ import annotations

import io
import logging
import sys
import threading
import time
from asyncio import CancelledError
from collections import deque
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from time import monotonic
from typing import Any, Final

LIVE: Final = "/health/live"  # is answered however many requests wait, or an overloaded server would be restarted
BODY_SECONDS: Final = 10.0  # in which a whole body must arrive
BODY_BYTES: Final = 1_000_000  # DATA_UPLOAD_MAX_MEMORY_SIZE
SMALL_BYTES: Final = 16_384  # of a body that ALL_BODIES_BYTES leaves out
ALL_BODIES_BYTES: Final = 64_000_000  # that a worker reads at a time
BUSY: Final = "Too many requests at once; try again in a moment."
WAITING: Final = 256  # requests of a worker that wait for a thread
WAIT_SECONDS: Final = 1.0
RETRY_AFTER: Final = "2"

_NAMES: Final = {
    name: f"HTTP_{name.upper().replace('-', '_')}"
    for name in (
        "accept", "accept-encoding", "accept-language", "authorization", "cache-control", "connection", "cookie",
        "host", "origin", "referer", "sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site", "user-agent",
        "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-real-ip",
    )
} | {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}  # fmt: skip
_ENVIRON: Final[dict[str, Any]] = {
    "SCRIPT_NAME": "", "SERVER_PROTOCOL": "HTTP/1.1", "SERVER_SOFTWARE": "granian",
    "wsgi.version": (1, 0), "wsgi.errors": sys.stderr, "wsgi.multithread": True, "wsgi.multiprocess": True,
    "wsgi.run_once": False, "wsgi.input_terminated": True,
}  # fmt: skip

logger = logging.getLogger(__name__)


class _Request:
    """A request, from its headers to its answer."""

    __slots__ = ("begun", "body", "bytes", "chunks", "headers", "proto", "scope", "waiting")

    def __init__(self, scope: Any, proto: Any) -> None:
        self.scope = scope
        self.proto = proto
        self.headers = scope.headers  # each access copies all of them
        self.begun = monotonic()
        self.bytes = 0  # that it takes in ALL_BODIES_BYTES
        self.body = b""
        self.chunks: list[bytes] | None = None  # of a body without Content-Length
        self.waiting: Any = None  # the awaitable of the body, while it is read

    def refuse(self, status: int, detail: str) -> None:
        """Answer without the application."""
        headers = [("content-type", "application/json"), ("x-content-type-options", "nosniff")]
        if status == 503:
            headers.append(("retry-after", RETRY_AFTER))
        self.proto.response_bytes(status, headers, b'{"detail":"%s"}' % detail.encode())


class Door:
    """Takes requests from granian. As many run at a time as there are threads; the others wait in a queue."""

    def __init__(self, application: Callable[..., Iterable[bytes]], threads: int) -> None:
        self._application = application
        self._free = threads  # of those that may run the application; granian has one more, for `begin`
        self._queue: deque[_Request] = deque()
        self._reading: set[_Request] = set()
        self._large_bytes = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._end_slow_bodies, daemon=True).start()

    def begin(self, watcher: Any) -> None:
        """Begin a request. granian calls this in one of its threads, and ignores what it raises."""
        proto = watcher.proto
        try:
            request = _Request(watcher.scope, proto)
            length = request.headers.get("content-length")
            if length is not None and length != "0":
                if self._admit(request, int(length)):
                    self._await(request, proto())
            elif "transfer-encoding" in request.headers:
                request.chunks = []
                self._reading.add(request)
                self._await(request, aiter(proto).__anext__())
            else:
                self._enqueue(request)
        except Exception:
            logger.exception("A request could not be begun.")
            proto.response_empty(500, [])

    def _admit(self, request: _Request, length: int) -> bool:
        """Whether so much of a body may be read; else the request is refused."""
        if length > BODY_BYTES:
            return self._refuse(request, 413, "The request's body is too large.")
        if length > SMALL_BYTES:
            with self._lock:
                room = self._large_bytes + length - request.bytes <= ALL_BODIES_BYTES
                if room:
                    self._large_bytes += length - request.bytes
                    request.bytes = length
            if not room:
                return self._refuse(request, 503, BUSY)
        self._reading.add(request)
        return True

    def _refuse(self, request: _Request, status: int, detail: str) -> bool:
        self._forget(request)
        request.refuse(status, detail)
        return False

    def _forget(self, request: _Request) -> None:
        self._reading.discard(request)
        request.waiting = None
        if request.bytes:
            with self._lock:
                self._large_bytes -= request.bytes

    def _await(self, request: _Request, body: Any) -> None:
        request.waiting = body
        body.add_done_callback(partial(self._continue, request))

    def _continue(self, request: _Request, body: Any) -> None:
        """Go on with a request of whose body something has arrived, or nothing in time."""
        try:
            part = body.result()
            if request.chunks is not None and part:
                request.chunks.append(part)
                if self._admit(request, sum(map(len, request.chunks))):
                    self._await(request, request.proto.__anext__())
                return
        except CancelledError:
            self._refuse(request, 408, "The request's body did not arrive in time.")
            return
        except Exception:  # noqa: BLE001  granian tells no kinds apart: the client is gone
            self._refuse(request, 400, "The request's body ended early.")
            return
        self._forget(request)
        request.body = part if request.chunks is None else b"".join(request.chunks)
        self._enqueue(request)

    def _end_slow_bodies(self) -> None:
        while True:
            time.sleep(0.5)
            self._cancel(begun_before=monotonic() - BODY_SECONDS)

    def _cancel(self, begun_before: float) -> None:
        for request in self._reading.copy():
            if request.begun < begun_before and (waiting := request.waiting) is not None:
                waiting.cancel()

    def _enqueue(self, request: _Request) -> None:
        """Run the application in this thread, or leave the request to a thread that does so already."""
        request.begun = monotonic()
        with self._lock:
            run = self._free > 0
            wait = not run and (len(self._queue) < WAITING or request.scope.path == LIVE)
            if run:
                self._free -= 1
            elif wait:
                self._queue.append(request)
        if run:
            self._serve(request)
        elif not wait:
            request.refuse(503, BUSY)

    def _serve(self, request: _Request | None) -> None:
        while request is not None:
            try:
                if monotonic() - request.begun < WAIT_SECONDS or request.scope.path == LIVE:
                    answer(self._application, request)
                else:
                    request.refuse(503, BUSY)
            except BaseException:
                logger.exception("The application raised.")
                request.refuse(500, "Internal server error.")
            with self._lock:
                request = self._queue.popleft() if self._queue else None
                if request is None:
                    self._free += 1


def answer(application: Callable[..., Iterable[bytes]], request: _Request) -> None:
    """Run the application and send what it answers."""
    status, proto = 500, request.proto
    headers: list[tuple[str, str]] = []

    def start_response(line: str, sent: list[tuple[str, str]], exc_info: Any = None) -> None:
        nonlocal status, headers
        status, headers = int(line[:3]), sent

    parts = application(environ_of(request.scope, request.headers, request.body), start_response)
    if type(parts) is list:
        proto.response_bytes(status, headers, parts[0] if len(parts) == 1 else b"".join(parts))
        return
    try:
        if not getattr(parts, "streaming", True):  # Django's HttpResponse
            proto.response_bytes(status, headers, b"".join(parts))
            return
        transport = proto.response_stream(status, headers)
        for part in parts:
            transport.send_bytes(part)
    finally:
        if hasattr(parts, "close"):
            parts.close()


def environ_of(scope: Any, headers: Any, body: bytes) -> dict[str, Any]:
    """The WSGI environ of a request."""
    path = scope.path
    environ = _ENVIRON.copy()
    for name, value in headers.items():
        key = _NAMES.get(name)
        if key is None:
            if "_" in name:
                continue
            key = f"HTTP_{name.upper().replace('-', '_')}"
        environ[key] = f"{environ[key]}{';' if key == 'HTTP_COOKIE' else ','}{value}" if key in environ else value
    if "HTTP_HOST" not in environ:
        environ["HTTP_HOST"] = scope.authority or ""
    environ["REQUEST_METHOD"] = scope.method
    environ["PATH_INFO"] = path if path.isascii() else path.encode().decode("latin-1")
    environ["QUERY_STRING"] = scope.query_string
    environ["REMOTE_ADDR"] = scope.client.rpartition(":")[0].strip("[]")
    environ["SERVER_NAME"], environ["SERVER_PORT"] = _split(scope.server)
    environ["wsgi.url_scheme"] = scope.scheme
    environ["wsgi.input"] = io.BytesIO(body)
    return environ


@lru_cache(maxsize=8)  # of the addresses on which it listens
def _split(server: str) -> tuple[str, str]:
    host, _, port = server.rpartition(":")
    return host.strip("[]"), port
