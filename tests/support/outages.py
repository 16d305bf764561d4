"""What a service answers, and how fast: the columns of the tables in docs/outages.md."""

import itertools
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from django.contrib.auth.models import User
from django.test import Client

from tests.support.doors import Got, ask, bearer
from tests.support.factories import make_admin, make_user, make_videos
from tests.support.faults import end_pauses
from videos import counters
from videos.counters import connection
from videos.flush import run_flush

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "outages.md"
LONGEST_SECONDS: Final = 1.0
RECOVERY_SECONDS: Final = 2.0
INSIDE: Final = "127.0.0.1"  # an address of VIDEOS_PRIVATE_NETWORKS, which sees health and metrics

Row = Mapping[str, str]  # what is answered, by column


def table(heading: str) -> dict[str, Row]:
    """The rows of the page's table below a heading, by their first cell."""
    text = PAGE.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", text, re.MULTILINE)
    ]
    names, _, *rows = lines
    return {row[0]: dict(zip(names[1:], row[1:], strict=True)) for row in rows}


def word(got: Got) -> str:
    """An answer as the tables say it."""
    if got.status != 200:
        return str(got.status)
    if isinstance(got.body, dict) and got.body.get("reason") == "full":
        return "full"
    return "stored" if got.headers.get("X-Counts") == "stored" else "ok"


def ready_word(got: Got) -> str:
    """An answer of /health/ready as the tables say it."""
    return got.body["status"] if got.status == 200 else str(got.status)


class Service:
    """Videos, of which one is warm, a user and an admin; what they get, and how long the longest request took."""

    def __init__(self) -> None:
        self.user: User = make_user("viewer")
        self.warm, *self.cold = make_videos(1000)
        self.owner = bearer(User.objects.get(username="owner"))
        client = Client()
        client.force_login(make_admin())
        self.cookie = "; ".join(f"{name}={morsel.value}" for name, morsel in client.cookies.items())
        self.numbers = itertools.count()
        self.longest = ("", 0.0)
        self.warm_up()

    def warm_up(self) -> None:
        """Let Redis know the warm video, this user's like of it, and its scripts."""
        for _ in range(2):
            self.like(self.warm)
            self.view(self.warm)
        self.like(self.cold.pop())
        ask("GET", "/admin/videos/video/", HTTP_COOKIE=self.cookie)  # which loads its templates

    def like(self, video: int, method: str = "PUT") -> Got:
        return ask(method, f"/api/videos/{video}/like/", **bearer(self.user))

    def view(self, video: int) -> Got:
        return ask("POST", f"/api/videos/{video}/view/", b'{"viewer":"v%d"}' % next(self.numbers))

    def counts(self, video: int) -> Got:
        return ask("GET", "/api/videos/counts/", QUERY_STRING=f"ids={video}")

    def lists(self) -> list[Callable[[], Got]]:
        return [
            lambda: ask("GET", "/api/videos/"),
            lambda: ask("GET", "/api/videos/", QUERY_STRING="search=1"),
            lambda: ask("GET", "/api/me/likes/", **bearer(self.user)),
            lambda: ask("GET", f"/api/videos/{self.warm}/likes/", **self.owner),
        ]

    def edit(self) -> Got:
        return ask("PATCH", f"/api/videos/{self.warm}/", b'{"title":"t%d"}' % next(self.numbers), **self.owner)

    def columns(self) -> dict[str, list[Callable[[], Got]]]:
        """The requests of each column; all of a column are answered alike."""
        return {
            "like": [lambda: self.like(self.warm)],
            "unlike": [lambda: self.like(self.warm, "DELETE")],
            "view": [lambda: self.view(self.warm)] * 2,
            "counts": [lambda: self.counts(self.warm), lambda: self.like(self.warm, "GET")],
            "cold like": [lambda: self.like(self.cold.pop())],
            "cold view": [lambda: self.view(self.cold.pop())],
            "cold counts": [lambda: self.counts(self.cold.pop())],
            "video": [lambda: ask("GET", f"/api/videos/{self.warm}/")],
            "lists": self.lists(),
            "edit": [self.edit],
            "admin": [lambda: ask("GET", "/admin/videos/video/", HTTP_COOKIE=self.cookie)],
            "live": [lambda: ask("GET", "/health/live")],
            "metrics": [lambda: ask("GET", "/metrics", REMOTE_ADDR=INSIDE)],
        }

    def answers(self, expected: Row) -> Row:
        """What the columns of a row are answered now, each by a process that has not noticed the outage yet."""
        time.sleep(2 * connection.FRESH_SECONDS)  # a connection that breaks earlier is not checked before its use
        said: dict[str, str] = {}
        columns = self.columns()
        for name in expected:
            if name == "flush":
                said[name] = "fails" if run_flush(shards=[counters.shard_of(self.warm)]).failed else "works"
            elif name == "ready":
                said[name] = ready_word(self.timed(name, lambda: ask("GET", "/health/ready", REMOTE_ADDR=INSIDE)))
            else:
                said[name] = ", ".join(sorted({word(self.timed(name, call)) for call in columns[name]}))
        return said

    def timed(self, name: str, call: Callable[[], Got]) -> Got:
        """Make a request, and remember it if it takes longer than those before."""
        end_pauses()
        begin = time.monotonic()
        got = call()
        self.longest = max(self.longest, (name, time.monotonic() - begin), key=lambda pair: pair[1])
        return got

    def recover(self) -> float:
        """Ask until everything is answered as without an outage, and return after how many seconds it was."""
        begin = time.monotonic()
        columns = self.columns()
        while True:
            seconds = time.monotonic() - begin
            said = {word(call()) for calls in columns.values() for call in calls}
            if said == {"ok"} or seconds > 2 * RECOVERY_SECONDS:
                return seconds
            time.sleep(0.02)
