"""The web server as README starts it, when its workers die and when the database hangs."""

import contextlib
import http.client
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from servers import MariaDBServer, Server, WebServer, wait_until
from servers.supervisor import Supervisor
from tests.soak.stack import ReadmeServer
from tests.support.breakdowns import proxied, stopped
from tests.support.doors import bearer, like_path
from tests.support.factories import make_user, make_videos
from tests.support.outages import LONGEST_SECONDS, RECOVERY_SECONDS
from tests.support.proxy import Proxy

LOGGER = logging.getLogger(__name__)
pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


def workers(server: WebServer) -> list[int]:
    """The worker processes."""
    return [pid for pid in server.pids()[1:] if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.once
def test_the_web_server_of_readme_outlives_its_workers(
    service_env: dict[str, str], run_server: Callable[[Server], None], tmp_path: Path
) -> None:
    server = ReadmeServer(tmp_path / "web", env=service_env)
    run_server(server)
    before = workers(server)
    assert len(before) == 2
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: server.up and len(set(workers(server)) - set(before)) == 2, what="the workers are replaced")


@pytest.mark.once
def test_a_web_server_that_does_not_answer_is_started_again(service_env: dict[str, str], tmp_path: Path) -> None:
    """`script/server` asks it, as this supervisor does."""
    server, supervisor = WebServer(tmp_path / "web", env=service_env, workers=2), Supervisor(tmp_path / "children.json")
    supervisor.start(server)
    watching = threading.Thread(target=supervisor.watch)
    watching.start()
    try:
        before = server.pids()
        for pid in workers(server):
            os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: not set(before) & set(server.pids()) and server.up, what="another web server answers")
    finally:
        supervisor.stopping = True
        watching.join()
        supervisor.stop()


class Client:
    """A client that keeps its connection, and the status and the seconds of each of its requests."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self.answers: list[tuple[float, int, float]] = []  # when it was sent, status, seconds

    def ask(self, method: str, path: str, token: str) -> None:
        begin = time.monotonic()
        self._connection.request(method, path, headers={"Host": "localhost", "Authorization": token})
        response = self._connection.getresponse()
        response.read()
        self.answers.append((begin, response.status, time.monotonic() - begin))

    def close(self) -> None:
        self._connection.close()


@pytest.mark.only("mariadb", "mysql")
@pytest.mark.parametrize("how", ["stopped", "swallows"])
def test_a_database_that_hangs_holds_up_no_warm_like(  # noqa: PLR0917  fixtures
    own_database: MariaDBServer,
    database_proxy: Proxy,
    service_env: dict[str, str],
    run_server: Callable[[Server], None],
    tmp_path: Path,
    how: str,
) -> None:
    """One worker with four threads, and more clients with cold requests than it has threads."""
    warm, *cold = make_videos(1000)
    tokens = [bearer(make_user(f"u{number}"))["HTTP_AUTHORIZATION"] for number in range(12)]
    url = f"mysql://app@127.0.0.1:{database_proxy.port}/streaming"
    server = WebServer(tmp_path / "web", env=service_env | {"DATABASE_URL": url, "LOG_LEVEL": "ERROR"}, threads=4)
    run_server(server)
    end = time.monotonic() + 9

    def like(number: int) -> Client:
        with contextlib.closing(Client(server.port)) as client:
            while time.monotonic() < end:
                client.ask("DELETE" if len(client.answers) % 2 else "PUT", like_path(warm), tokens[number])
                time.sleep(0.02)
        return client

    def read(number: int) -> Client:
        with contextlib.closing(Client(server.port)) as client:
            while time.monotonic() < end:
                client.ask("GET", f"/api/videos/{cold[len(client.answers) % len(cold)]}/", tokens[number])
                time.sleep(0.02)
        return client

    with ThreadPoolExecutor(12) as pool:
        likers, readers = [pool.submit(like, n) for n in range(4)], [pool.submit(read, n) for n in range(8)]
        time.sleep(2)
        with stopped(own_database) if how == "stopped" else proxied(database_proxy, swallow=True):
            hung = time.monotonic()
            time.sleep(3)
        back = time.monotonic()
        liked = sorted(answer for future in likers for answer in future.result().answers)
        seen = sorted(answer for future in readers for answer in future.result().answers)

    longest = max(liked, key=lambda answer: answer[2]), max(seen, key=lambda answer: answer[2])
    LOGGER.info("%s: longest warm like and cold read %s, hung at %s, back at %s", how, longest, hung, back)
    assert {status for _, status, _ in liked} == {200}
    assert {status for _, status, _ in seen} == {200, 503}
    assert {status for at, status, _ in seen if at < hung - 1 or at > back + RECOVERY_SECONDS} == {200}
    assert max(seconds for _, _, seconds in liked) < LONGEST_SECONDS
    assert max(seconds for _, _, seconds in seen) < LONGEST_SECONDS
    assert sum(hung + 1 < at < back for at, _, _ in liked) > 100
