"""Clients that hold up, flood or mislead the web server: raw sockets at a real one, started as in production."""

import contextlib
import http.client
import itertools
import json
import socket
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from servers import Server, WebServer, resident_bytes
from tests.deploy.test_web_server import workers
from tests.support.doors import like_path, view_path
from videos.models import Video

pytestmark = [pytest.mark.once, pytest.mark.slow, pytest.mark.django_db(transaction=True)]

AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
BODY_SECONDS = 10
MIB = 1 << 20


@pytest.fixture
def server(service_env: dict[str, str], run_server: Callable[[Server], None], tmp_path: Path) -> WebServer:
    """The service with as many workers and threads as `script/server` gives it."""
    server = WebServer(tmp_path / "web", env=service_env, workers=2, threads=4)
    run_server(server)
    return server


def request(path: str, *lines: str, method: str = "POST") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


def half_sent(path: str) -> dict[str, bytes]:
    """Requests that are never completed."""
    kind = "Content-Type: application/json"
    return {
        "idle": b"",
        "headers": request(path, kind)[:40],
        "body": request(path, kind, "Content-Length: 40") + b'{"viewer":',
        "chunks": request(path, kind, "Transfer-Encoding: chunked") + b'a\r\n{"viewer":\r\n',
    }


def connect(server: WebServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


@contextlib.contextmanager
def held(server: WebServer, number: int, sent: bytes) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(connect(server)) for _ in range(number)]
        for peer in peers:
            peer.sendall(sent)
        time.sleep(0.5)
        yield peers


def reads(server: WebServer, path: str, number: int = 100) -> list[float]:
    """Seconds that each of these reads took; all are answered."""
    took = []
    for _ in range(number):
        begin = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Host": "localhost"})
            response = connection.getresponse()
            assert (response.status, bool(response.read())) == (200, True)
        took.append(time.monotonic() - begin)
    return took


def last(peer: socket.socket) -> bytes:
    """All that the server still sends before it closes the connection."""
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while part := peer.recv(65536):
            got += part
    return got


@pytest.mark.parametrize(
    ("number", "kind"), [(100, "body"), (500, "body"), (500, "chunks"), (500, "headers"), (1100, "idle")]
)
def test_slow_clients_hold_up_no_other(server: WebServer, video: Video, number: int, kind: str) -> None:
    path = like_path(video.pk)
    alone = statistics.median(reads(server, path))
    with held(server, number, half_sent(view_path(video.pk))[kind]):
        beside = reads(server, path)
        assert statistics.median(beside) < 10 * alone + 0.05
        assert max(beside) < 2


@pytest.mark.parametrize("kind", ["body", "chunks"])
def test_a_body_that_does_not_arrive_in_time_is_given_up(server: WebServer, video: Video, kind: str) -> None:
    """One byte a second keeps no connection."""
    with held(server, 3, half_sent(view_path(video.pk))[kind]) as peers:
        end = time.monotonic() + BODY_SECONDS + 3
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while time.monotonic() < end:
                for peer in peers:
                    peer.sendall(b"1\r\n \r\n" if kind == "chunks" else b" ")
                time.sleep(1)
        assert [last(peer).split()[1] for peer in peers] == [b"408"] * 3


def test_http2_is_not_spoken(server: WebServer, video: Video) -> None:
    """Its half-sent bodies woke no thread, and none ever ended."""
    with connect(server) as peer:
        peer.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        assert last(peer).split()[:2] in ([b"HTTP/1.1", b"400"], [])
    reads(server, like_path(video.pk), 3)


@pytest.mark.parametrize("length", [b"Content-Length: 1000001", b"Transfer-Encoding: chunked"])
def test_a_large_body_is_refused_before_all_of_it_is_read(server: WebServer, video: Video, length: bytes) -> None:
    with connect(server) as peer:
        peer.sendall(request(view_path(video.pk), "Content-Type: application/json", length.decode()))
        if b"chunked" in length:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for _ in range(11):
                    peer.sendall(b"186a0\r\n" + b" " * 100_000 + b"\r\n")
        assert peer.recv(100).split()[1] == b"413"


def test_a_name_with_an_underscore_is_no_header(
    service_env: dict[str, str], run_server: Callable[[Server], None], tmp_path: Path
) -> None:
    """`X_Forwarded_For` replaced what the proxy wrote in `X-Forwarded-For`: a WSGI environ names both alike."""
    server = WebServer(tmp_path / "web", env=service_env | {"TRUSTED_PROXY_HOPS": "1", "PRIVATE_NETWORKS": "0.0.0.0/0"})
    run_server(server)
    for names in itertools.permutations(("X_Forwarded_For", "X-Forwarded-For", "x_forwarded-FOR")):
        lines = [f"{name}: 192.0.2.{1 + ('_' in name)}" for name in names]
        with connect(server) as peer:
            peer.sendall(request("/health/ready", *lines, "Connection: close", method="GET"))
            body = last(peer).partition(b"\r\n\r\n")[2]
        assert json.loads(body)["you"]["address"] == "192.0.2.1"


JUNK = "x" * 300


def strange(number: int, video: int) -> tuple[str, str, dict[str, str]]:
    """A request with a value that no other has, of 300 to 50,000 characters."""
    junk = f"{number:07d}" + JUNK * (1 + number % 5 * 40)
    usual = {"Host": "localhost", "User-Agent": AGENT, "Content-Type": "application/json"}
    view, counts = ("POST", view_path(video)), ("GET", "/api/videos/counts/?ids=1")
    kinds: list[tuple[tuple[str, str], dict[str, str]]] = [
        (view, {"X-Forwarded-For": junk}), (view, {"X-Forwarded-Proto": junk}), (view, {"User-Agent": junk}),
        (view, {"X-Forwarded-For": f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"}),
        (view, {"Host": f"{junk}.example"}), (view, {"Host": f"localhost:{number % 65536}"}),
        (view, {"Host": f"h{number}.example"}), (view, {"Origin": f"https://{junk}"}),
        (view, {"Content-Type": f"application/json; a={junk}"}), (view, {f"X-{junk}": "1"}),
        (counts, {"Authorization": f"Bearer {junk}"}), (counts, {"Cookie": f"csrftoken={junk}"}),
        (counts, {"Accept": junk}), (counts, {"Accept-Language": junk}),
        (("GET", f"/{junk}"), {}), (("GET", f"/api/{junk}"), {}), (("GET", f"/static/{junk}"), {}),
        (("GET", f"/api/schema/?{junk}"), {}), (("GET", f"/api/videos/?cursor={junk}"), {}),
    ]  # fmt: skip
    (method, path), changes = kinds[number % len(kinds)]
    return method, path, usual | changes


@pytest.mark.timeout(600)
def test_what_strangers_send_stays_in_no_cache(
    service_env: dict[str, str], run_server: Callable[[Server], None], video: Video, tmp_path: Path
) -> None:
    """20,000 requests, 300 MB of values that are all different."""
    hops = {"TRUSTED_PROXY_HOPS": "1", "LOG_LEVEL": "CRITICAL"}
    server = WebServer(tmp_path / "web", env=service_env | hops, workers=1, threads=4)
    run_server(server)
    (worker,) = workers(server)
    statuses: Counter[int] = Counter()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    held_at = []
    for number in range(20_000):
        method, path, headers = strange(number, video.pk)
        connection.request(method, path, b'{"watched":99}' if method == "POST" else None, headers)
        response = connection.getresponse()
        response.read()
        statuses[response.status] += 1
        if response.will_close:
            connection.close()
        if number % 4000 == 3999:
            held_at.append(resident_bytes(worker))
    connection.close()
    assert {200, 400, 401, 404} <= set(statuses) <= {200, 400, 401, 404, 406, 429}
    assert held_at[-1] - held_at[0] < 24 * MIB, held_at  # it was 62 KiB and more a request: 970 MiB


def test_the_schema_is_made_once(server: WebServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    took = []
    for number in range(60):
        begin = time.monotonic()
        connection.request("GET", f"/api/schema/?lang=en&x={number}", headers={"Host": "localhost"})
        response = connection.getresponse()
        assert (response.status, b"openapi" in response.read()) == (200, True)
        took.append(time.monotonic() - begin)
    connection.close()
    assert statistics.median(took[10:]) < 0.05
