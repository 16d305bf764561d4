"""The service behind Debian's nginx, HAProxy and Caddy, with the files in deploy/: addresses, slow clients."""

import contextlib
import http.client
import json
import logging
import shutil
import socket
import ssl
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from servers import ROOT, Process, Server, WebServer, free_port, listens, wait_until
from tests.conftest import unavailable
from tests.support.doors import like_path, view_path
from videos.models import Video

pytestmark = [pytest.mark.once, pytest.mark.slow, pytest.mark.django_db(transaction=True)]

LOGGER = logging.getLogger(__name__)
DEPLOY = ROOT / "deploy"
PATHS = "/usr/sbin:/usr/bin:/usr/local/bin:/usr/local/sbin"
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
TRUSTING = ssl.create_default_context()
TRUSTING.check_hostname, TRUSTING.verify_mode = False, ssl.CERT_NONE
NAMES = ("X-Forwarded-For", "X_Forwarded_For", "x-forwarded_for", "Forwarded", "X-Real-IP")


def program(name: str) -> str:
    found = shutil.which(name, path=PATHS)
    if found is None:
        unavailable(f"{name} is not installed (Debian: apt install {name})")
    return str(found)


@pytest.fixture
def web(service_env: dict[str, str], run_server: Callable[[Server], None], tmp_path: Path) -> WebServer:
    """The service as in production; what it says of a caller is open to every address."""
    env = {"TRUSTED_PROXY_HOPS": "1", "PRIVATE_NETWORKS": "0.0.0.0/0", "ALLOWED_HOSTS": "*", "LOG_LEVEL": "ERROR"}
    server = WebServer(tmp_path / "web", env=service_env | env, workers=2, threads=4)
    run_server(server)
    return server


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A folder with a certificate as nginx wants it, and as HAProxy does."""
    files = ["-keyout", str(tmp_path / "privkey.pem"), "-out", str(tmp_path / "fullchain.pem")]
    kind = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=videos.example.org"]
    subprocess.run([program("openssl"), *kind, *files], check=True, capture_output=True)
    parts = [(tmp_path / name).read_text() for name in ("fullchain.pem", "privkey.pem")]
    (tmp_path / "streaming.pem").write_text("".join(parts))
    return tmp_path


@pytest.fixture
def proxy(request: pytest.FixtureRequest, web: WebServer, certificate: Path, tmp_path: Path) -> Iterator[int]:
    """The TLS port of the proxy that the test names."""
    name, port, folder = request.param, free_port(), tmp_path / "proxy"
    folder.mkdir()
    folder.chmod(0o755)
    if name == "nginx":
        text = (DEPLOY / "nginx" / "streaming.conf").read_text()
        text = text.replace("/etc/ssl/streaming", str(certificate)).replace("listen 80;", f"listen {free_port()};")
        text = text.replace("listen 443", f"listen {port}").replace("127.0.0.1:8000", f"127.0.0.1:{web.port}")
        text = text.replace("streaming_address 200", "streaming_address 1000")  # here all clients have one address
        (folder / "streaming.conf").write_text(text)
        (folder / "nginx.conf").write_text(
            f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log; user root;\n"
            "events { worker_connections 4096; }\n"
            f"http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/temp;\n"
            f"include {folder}/streaming.conf; }}"
        )
        command = [program("nginx"), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    elif name == "haproxy":
        text = (DEPLOY / "haproxy" / "streaming.cfg").read_text()
        text = text.replace("/etc/haproxy/streaming.pem", str(certificate / "streaming.pem"))
        text = text.replace(":443", f"127.0.0.1:{port}").replace("127.0.0.1:8000", f"127.0.0.1:{web.port}")
        (folder / "haproxy.cfg").write_text(text)
        command = [program("haproxy"), "-db", "-f", str(folder / "haproxy.cfg")]
    else:
        text = (DEPLOY / "caddy" / "Caddyfile").read_text().replace("127.0.0.1:8000", f"127.0.0.1:{web.port}")
        text = text.replace("videos.example.org {", f"https://localhost:{port} {{\n\ttls internal")
        text = text.replace(
            "{\n\tservers", "{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n\tservers"
        )
        (folder / "Caddyfile").write_text(text)
        home = ["env", f"HOME={folder}", f"XDG_DATA_HOME={folder}", f"XDG_CONFIG_HOME={folder}"]
        command = [*home, program("caddy"), "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]
    process = Process(command, log=folder / "log", name=name)
    try:
        process.wait_until(lambda: listens(port))
        wait_until(lambda: answers(port), what=f"{name} answers")
        yield port
    finally:
        process.kill()


every_proxy = pytest.mark.parametrize("proxy", ["nginx", "haproxy", "caddy"], indirect=True)


def ask(
    port: int, method: str, path: str, headers: tuple[tuple[str, str], ...] = (), body: bytes = b""
) -> tuple[int, bytes]:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
        with TRUSTING.wrap_socket(plain, server_hostname="localhost") as peer:
            lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"User-Agent: {AGENT}", "Connection: close"]
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"] if body else []
            lines += [f"{name}: {value}" for name, value in headers]
            peer.sendall("\r\n".join([*lines, "", ""]).encode() + body)
            response = http.client.HTTPResponse(peer)
            response.begin()
            return response.status, response.read()


def answers(port: int) -> bool:
    try:
        return ask(port, "GET", "/health/live")[0] == 200
    except OSError:
        return False


@every_proxy
def test_no_header_of_a_client_changes_its_address(proxy: int, video: Video) -> None:
    """Of 120 views of one address 100 count, whatever each of them says that its address is."""
    reasons = []
    for number in range(120):
        headers = tuple((name, f"198.51.100.{number}") for name in NAMES)
        status, answer = ask(proxy, "POST", view_path(video.pk), headers, b'{"viewer":"v%d","watched":99}' % number)
        assert status == 200
        reasons.append(json.loads(answer)["reason"])
    assert reasons.count("new") == 100, set(reasons)


@every_proxy
def test_what_is_for_the_inside_is_closed(proxy: int) -> None:
    assert [ask(proxy, "GET", path)[0] for path in ("/metrics", "/health/ready", "/health/live")] == [404, 404, 200]


@every_proxy
def test_a_large_body_is_refused(proxy: int, video: Video) -> None:
    with contextlib.suppress(ConnectionError, ssl.SSLError):  # some close before they have read all of it
        assert ask(proxy, "POST", view_path(video.pk), (), b" " * 1_200_000)[0] in {413, 502}  # Caddy 2.6 may say 502


@every_proxy
def test_slow_clients_hold_up_no_other(proxy: int, video: Video) -> None:
    """500 clients that each send half of a body; the p99 of others beside them."""
    path = like_path(video.pk)
    alone = reads(proxy, path)
    head = f"POST {view_path(video.pk)} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(500):
            plain = stack.enter_context(socket.create_connection(("127.0.0.1", proxy), timeout=20))
            peer = stack.enter_context(TRUSTING.wrap_socket(plain, server_hostname="localhost"))
            peer.sendall(f'{head}Content-Length: 40\r\n\r\n{{"viewer":'.encode())
        beside = reads(proxy, path)
    LOGGER.info("p99 of others: %.1f ms alone, %.1f ms beside 500", p99(alone) * 1000, p99(beside) * 1000)
    assert p99(beside) < 5 * p99(alone) + 0.1
    assert statistics.median(beside) < 3 * statistics.median(alone) + 0.02


def reads(port: int, path: str, number: int = 200) -> list[float]:
    took = []
    for _ in range(number):
        begin = time.monotonic()
        assert ask(port, "GET", path)[0] == 200
        took.append(time.monotonic() - begin)
    return took


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]
