"""script/server as a newcomer runs it: one command, two printed curl lines, Ctrl-C, and the counts are still there.

Over 250 lines: a start of the service takes most of the time, and several tests share a running one.
"""

import ast
import json
import os
import re
import shutil
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from servers import ROOT, MariaDBServer, Process, RedisServer, alive, free_port, wait_until
from tests.conftest import unavailable
from tests.support.packages import captured

pytestmark = [pytest.mark.slow, pytest.mark.once]

STOP_SECONDS = 90.0
FIRST_START_SECONDS = 180.0  # it may have to make the virtual environment


class Embedded:
    """One script/server on a folder of its own."""

    def __init__(self, var: Path) -> None:
        self.var = var
        self.port = free_port()
        self.starts = 0
        self.process: Process | None = None

    def launch(self, **environment: str) -> Process:
        """Start it and return at once."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not re.match(r"(DATABASE_URL|REDIS_URL|SECRET_KEY|STREAMING_|DJANGO_|COV)", name)
        }
        self.starts += 1
        self.process = Process(
            [sys.executable, ROOT / "script" / "server", "--port", str(self.port), "--var", self.var],
            log=self.var.with_name(f"{self.port}-{self.starts}.log"),
            env=inherited | environment,
        )
        return self.process

    def start(self, **environment: str) -> None:
        """Start it and return when it has said what to try."""
        process = self.launch(**environment)
        wait_until(
            lambda: "Ctrl-C stops everything." in process.output or not process.running,
            what="script/server",
            seconds=FIRST_START_SECONDS,
        )
        assert process.running, process.output

    def stop(self) -> None:
        """Stop it, if it runs."""
        if self.process is not None and self.process.running:
            self.process.stop()

    @property
    def output(self) -> str:
        """What it printed since the last start."""
        assert self.process is not None
        return self.process.output

    def curl(self, part: str) -> dict[str, Any]:
        """Run the printed curl line that has `part` in it, as a shell does."""
        if shutil.which("curl") is None:
            unavailable("curl is not installed")
        [line] = [line for line in self.output.splitlines() if line.startswith("  curl ") and part in line]
        [token] = re.findall(r"^  (TOKEN=\S+)$", self.output, re.MULTILINE)
        done = captured(["sh", "-c", f"{token}\n{line} --silent --fail-with-body"])
        assert done.returncode == 0, done.stdout + done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def view_without_its_time(self) -> int:
        """The status of a view that does not say how long was watched."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/api/videos/1/view/", b"", method="POST")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)  # noqa: S310
        refused.value.close()
        return refused.value.code

    def counts(self) -> tuple[int, int]:
        """Likes and views of the video that the printed lines are about, as it is read now."""
        [path] = re.findall(r"^  curl \S+(/api/videos/\d+/)$", self.output, re.MULTILINE)
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            video = json.load(answer)
        return video["like_count"], video["view_count"]

    def children(self) -> list[int]:
        """The processes that it keeps running."""
        return [int(pid) for pid in json.loads((self.var / "children.json").read_text())]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Embedded]:
    """A service of this test's own, not started; it is gone after the test."""
    own = Embedded(tmp_path / "a folder with spaces")
    yield own
    own.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """A running service whose first video has one like, for the tests that leave both as they are."""
    service = Embedded(tmp_path_factory.mktemp("shared") / "var")
    service.start()
    service.curl("/like/")
    yield service
    service.stop()


def group(leader: int) -> list[int]:
    """The running processes of a process group."""
    rows = [line.split() for line in captured(["ps", "-eo", "pid=,pgid=,stat="], check=True).stdout.splitlines()]
    return [int(pid) for pid, pgid, state in rows if int(pgid) == leader and not state.startswith("Z")]


def test_printed_lines_count_ctrl_c_stops_in_order_and_the_next_start_has_the_counts(service: Embedded) -> None:
    service.start()
    assert service.curl("/like/")["like_count"] == 1
    assert service.curl("/view/")["reason"] == "new"
    assert service.curl("/view/")["reason"] == "seen"
    assert service.view_without_its_time() == 400
    assert service.counts() == (1, 1)
    children, process = service.children(), service.process
    assert process is not None
    process.send(signal.SIGINT)
    wait_until(lambda: not process.running, what=f"the end of\n{service.output}", seconds=STOP_SECONDS)
    assert process.wait() == 0, service.output
    assert service.output.rstrip().endswith("Stopped. Every count is kept.")
    assert [pid for pid in children if alive(pid)] == []
    service.start()
    assert service.counts() == (1, 1)
    assert service.curl("/like/")["like_count"] == 1


def test_flush_in_a_second_terminal_sees_the_same_databases(service: Embedded) -> None:
    service.start(FLUSH_INTERVAL_SECONDS="3600")
    service.curl("/like/")
    environment = {"PATH": os.environ["PATH"], "STREAMING_ENV_FILE": str(service.var / "env")}
    done = captured(["python3", "manage.py", "flush_counters", "--json"], env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["likes_added"] == 1


PRODUCTION = {
    "SECRET_KEY": "x" * 50,
    "DATABASE_URL": "mysql://a@nowhere/b",
    "REDIS_URL": "redis://nowhere/0",
    "ALLOWED_HOSTS": "videos.example",
}
EMBEDDED_ENV = "STREAMING_EMBEDDED=1\nSECRET_KEY=kept\nDATABASE_URL=sqlite:////tmp/x\nREDIS_URL=redis://own/0\n"


def read_settings(checkout: Path, expression: str, **environment: str) -> str:
    """An expression of the settings in a checkout where script/server ran."""
    (checkout / "var").mkdir()
    (checkout / "var" / "env").write_text(EMBEDDED_ENV)
    shutil.copytree(ROOT / "streaming", checkout / "streaming")
    command = [sys.executable, "-c", f"from streaming import settings; print({expression})"]
    done = captured(command, env={"PATH": os.environ["PATH"]} | environment, cwd=checkout)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


IN_SHORT = "settings.EMBEDDED, settings.SECRET_KEY[:4], settings.CACHES['counters']['LOCATION']"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (PRODUCTION, "False xxxx redis://nowhere/0"),
        ({}, "True kept redis://own/0"),
        ({"SECRET_KEY": "xxxx", "STREAMING_ENV_FILE": "var/env"}, "True xxxx redis://own/0"),
    ],
    ids=["production", "a second terminal", "a file that is named"],
)
def test_what_script_server_wrote_is_for_its_checkout_and_for_who_names_it(
    tmp_path: Path, given: dict[str, str], expected: str
) -> None:
    assert read_settings(tmp_path, IN_SHORT, **given) == expected


@pytest.mark.parametrize("missing", sorted(PRODUCTION))
def test_a_missing_production_value_is_named(tmp_path: Path, missing: str) -> None:
    given = PRODUCTION | {missing: "", "STREAMING_ENV_FILE": os.devnull}
    assert f"Set the environment variable {missing}" in read_settings(tmp_path, IN_SHORT, **given)


def test_killed_parent_leaves_nothing_and_the_next_start_has_the_counts(service: Embedded) -> None:
    service.start()
    service.curl("/like/")
    service.curl("/view/")
    left = service.children()
    assert service.process is not None
    assert service.process.kill() == -signal.SIGKILL
    service.start()
    assert service.counts() == (1, 1)
    assert [pid for pid in left if alive(pid)] == []


@pytest.mark.parametrize("child", [0, 1, 2], ids=["valkey", "flush", "web"])
def test_a_child_that_dies_is_started_again(shared: Embedded, child: int) -> None:
    killed, deaths = shared.children()[child], shared.output.count("died (SIGKILL); starting it again.")
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: killed not in shared.children(), what="a new child")
    assert shared.output.count("died (SIGKILL); starting it again.") == deaths + 1
    wait_until(lambda: _counts_or_none(shared) == (1, 0), what="the service recovers")
    wait_until(lambda: group(killed) == [], what="the end of what it had started")


def _counts_or_none(service: Embedded) -> tuple[int, int] | None:
    try:
        return service.counts()
    except OSError:
        return None


def test_two_run_side_by_side(shared: Embedded, service: Embedded) -> None:
    service.start()
    assert (shared.counts(), service.counts()) == ((1, 0), (0, 0))


def test_a_second_start_on_the_same_folder_is_refused(shared: Embedded) -> None:
    second = Embedded(shared.var)
    process = second.launch()
    assert process.wait() == 1
    assert shared.process is not None
    assert f"already runs on {shared.var}, as process {shared.process.pid}" in process.output


def test_a_taken_port_is_named(service: Embedded) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        service.port = taken.getsockname()[1]
        process = service.launch()
        assert process.wait() == 1
    assert f"port {service.port} cannot be used: Address already in use. Choose another one with --port." in (
        process.output
    )


def test_the_web_server_speaks_http_1_only(shared: Embedded) -> None:
    with socket.create_connection(("127.0.0.1", shared.port), timeout=10) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        answer = connection.recv(100)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")  # HTTP/2 answers with a SETTINGS frame


def test_an_old_python_gets_as_far_as_the_message() -> None:
    source = (ROOT / "script" / "server").read_text()
    ast.parse(source, feature_version=(3, 7))
    assert source.index("sys.exit(") < source.index("from embedded import")


@pytest.mark.only("mariadb", "mysql")
def test_given_servers_are_used_instead(
    service: Embedded, private_database: MariaDBServer, private_redis: RedisServer
) -> None:
    service.start(DATABASE_URL=private_database.url, REDIS_URL=private_redis.url, FLUSH_INTERVAL_SECONDS="1")
    service.curl("/like/")
    assert private_redis.client().keys("*live*") != []
    wait_until(
        lambda: private_database.query("SELECT COUNT(*) FROM videos_videolike", database="streaming") == [(1,)],
        what="the flush",
    )
    assert not (service.var / "valkey").exists()
    assert not (service.var / "streaming.sqlite3").exists()


@pytest.mark.only("mariadb", "mysql")
def test_a_database_with_accounts_gets_no_demo_accounts(service: Embedded, private_database: MariaDBServer) -> None:
    environment = {"DATABASE_URL": private_database.url}
    service.start(**environment)
    assert service.process is not None
    service.process.stop()
    private_database.query("DELETE FROM auth_user WHERE username = 'admin'", database="streaming")
    service.start(**environment)
    assert private_database.query("SELECT 1 FROM auth_user WHERE username = 'admin'", database="streaming") == []


@pytest.mark.django_db
def test_demo_accounts_are_refused_outside_the_embedded_start(settings: Any) -> None:
    settings.EMBEDDED = False
    with pytest.raises(CommandError, match="embedded start only"):
        call_command("seed_demo")
