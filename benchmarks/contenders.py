"""Who takes part: how each is set up, started and asked; the same work, said in each one's own words."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from servers import PYTHON, Process, Servers, call, free_port, granian, listens, start

SECRET_KEY = "benchmark-" + "0123456789abcdef" * 4  # signs everybody's tokens
USER_AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
WORKERS = os.cpu_count() or 1
THREADS = 4  # a write waits for the disk that holds Redis' file; meanwhile the worker serves others


@dataclass(frozen=True)
class Request:
    """One HTTP request, as the load generators send it."""

    method: str
    path: str
    token: str | None = None
    body: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def raw(self) -> bytes:
        """The bytes on the wire, HTTP/1.1 with keep-alive."""
        body = (self.body or "").encode()
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: 127.0.0.1", f"User-Agent: {USER_AGENT}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.token:
            lines.append(f"Authorization: Bearer {self.token}")
        if body or self.method in {"POST", "PUT", "PATCH"}:
            if "Content-Type" not in self.headers:
                lines.append("Content-Type: application/json")
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True)
class Contender:
    """One way to count: its project, its database, and the words of its requests."""

    name: str
    label: str
    wsgi: str  # what granian loads
    settings: str | None = None
    app: str | None = None  # prefix of its tables
    database: str = "bench"
    redis_db: int = 0
    flush_command: Sequence[str] = ()  # arguments of its manage.py for a flush; empty where it has none
    manage: Sequence[str] = ("-m", "benchmarks.manage")

    def environment(self, servers: Servers) -> dict[str, str]:
        """The environment of its processes."""
        environment = {
            **os.environ,
            "SECRET_KEY": SECRET_KEY,
            "DATABASE_URL": servers.database_url(self.database),
            "REDIS_URL": servers.redis_url(self.redis_db),
            "ALLOWED_HOSTS": "127.0.0.1,localhost",
            "SECURE_SSL_REDIRECT": "0",
            "TOKEN_MINUTES": "600",
            "STREAMING_ENV_FILE": str(servers.folder / "none"),  # never the settings of a running script/server
            "PYTHONWARNINGS": "ignore",
            "LOG_LEVEL": "WARNING",
        }
        if self.settings:
            environment["DJANGO_SETTINGS_MODULE"] = self.settings
        return environment

    def manage_command(self, *arguments: str) -> list[str]:
        """Its manage.py with these arguments."""
        return [str(PYTHON), *self.manage, *arguments]

    # The words of its requests

    def like(self, video: int, token: str, *, liked: bool = True) -> Request:
        """A signed-in user likes a video, or likes it no longer."""
        return Request("PUT" if liked else "DELETE", f"/api/videos/{video}/like/", token)

    def view(self, video: int, viewer: str) -> Request:
        """Somebody watched a video."""
        return Request("POST", f"/api/videos/{video}/view/", body=f'{{"viewer":"{viewer}"}}')

    # Its data

    def migrate(self, servers: Servers) -> None:
        """Make its database anew: by its migrations once a run, then as a copy of what they made."""
        migrated = f"migrated_{self.app}"
        if not servers.sql("SHOW DATABASES LIKE %s", migrated):
            servers.sql(f"CREATE DATABASE {migrated}")
            command = self.manage_command("migrate", "--verbosity=0")
            call(command, replace(self, database=migrated).environment(servers))
        servers.copy_database(migrated, self.database)

    def fill(self, servers: Servers, *, users: int, videos: int) -> None:
        """Users 1..users and videos 1..videos, with no counts, and an empty Redis."""
        servers.redis_client(self.redis_db).flushdb()
        if not self.app:
            return
        servers.sql("SET FOREIGN_KEY_CHECKS = 0", database=self.database)
        for table in self.tables():
            servers.sql(f"TRUNCATE TABLE {table}")
        servers.sql("SET FOREIGN_KEY_CHECKS = 1")
        have = int(servers.sql("SELECT COUNT(*) FROM auth_user")[0][0])
        if have < users:
            servers.sql(
                "INSERT INTO auth_user (id, password, is_superuser, username, first_name, last_name, email, is_staff, "
                f"is_active, date_joined) SELECT seq, '!', 0, CONCAT('user', seq), '', '', '', 0, 1, NOW() "
                f"FROM seq_{have + 1}_to_{users}"
            )
        servers.sql(self.video_sql(videos))

    def tables(self) -> Sequence[str]:
        """Tables that a fresh start empties, videos among them."""
        return (f"{self.app}_videolike", f"{self.app}_video")

    def video_sql(self, videos: int) -> str:
        """The statement that makes videos 1..videos."""
        raise NotImplementedError(self.name)

    def views_stored(self, servers: Servers) -> dict[int, int]:
        """Stored views by video, zeros left out."""
        raise NotImplementedError(self.name)

    def likes_stored(self, servers: Servers) -> dict[int, int]:
        """Stored likes by video, zeros left out."""
        raise NotImplementedError(self.name)

    def views_counted(self, servers: Servers) -> int:
        """Views counted since `fill`, all videos together, before any flush."""
        return sum(self.views_stored(servers).values())

    def like_rows(self, servers: Servers) -> dict[int, int]:
        """Like rows by video."""
        found = servers.sql(f"SELECT video_id, COUNT(*) FROM {self.app}_videolike GROUP BY 1", database=self.database)
        return dict(found)

    def _column(self, servers: Servers, column: str) -> dict[int, int]:
        found = servers.sql(f"SELECT id, {column} FROM {self.app}_video WHERE {column} <> 0", database=self.database)
        return dict(found)

    # Its processes

    @contextmanager
    def serving(
        self, servers: Servers, *, server: str = "granian", workers: int = WORKERS, threads: int = THREADS
    ) -> Iterator[Site]:
        """Its web server, ready to answer."""
        port = free_port()
        if server == "granian":
            command = granian(
                port, application=self.wsgi, workers=workers, threads=threads, options=("--log-level", "warning")
            )
        else:
            kind = "gthread" if threads > 1 else "sync"
            command = [
                PYTHON.parent / server, "--bind", f"127.0.0.1:{port}", "--workers", str(workers),
                "--worker-class", kind, "--threads", str(threads), "--log-level", "warning", self.wsgi,
            ]  # fmt: skip
        process = start(f"web-{self.name}", command, servers.folder, self.environment(servers))
        try:
            process.wait_until(lambda: listens(port) and len(process.pids()) > workers)
            yield Site(self, process, port)
        finally:
            process.stop()

    @contextmanager
    def flushing(self, servers: Servers, every_seconds: float) -> Iterator[Process | None]:
        """Its flush loop, where it has one; at the end it is told to stop and finishes what it has in hand."""
        if not self.flush_command:
            yield None
            return
        command = self.manage_command(*self.flush_command, "--every", f"{every_seconds:g}")
        process = start(f"flush-{self.name}", command, servers.folder, self.environment(servers))
        try:
            yield process
        finally:
            process.stop()

    def flush(self, servers: Servers, *arguments: str) -> str:
        """Flush once, in a process of its own; what it printed."""
        return call(self.manage_command(*self.flush_command, *arguments), self.environment(servers)).stdout


@dataclass(frozen=True)
class Site:
    """A contender that is being served."""

    contender: Contender
    process: Process
    port: int

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True)
class Ours(Contender):
    """This service."""

    def tables(self) -> Sequence[str]:
        return ("videos_videolike", "videos_videohour", "videos_stalelive", "videos_flushbatch", "videos_video")

    def video_sql(self, videos: int) -> str:
        return (
            "INSERT INTO videos_video (id, title, description, url, duration, owner_id, created_at, like_count, "
            "view_count, flushed_batch) "
            "SELECT seq, CONCAT('Video ', seq), '', CONCAT('https://example.org/', seq), 300, 1, "
            f"NOW() - INTERVAL seq SECOND, 0, 0, 0 FROM seq_1_to_{videos}"
        )

    def views_stored(self, servers: Servers) -> dict[int, int]:
        return self._column(servers, "view_count")

    def likes_stored(self, servers: Servers) -> dict[int, int]:
        return self._column(servers, "like_count")

    def forget_counts(self, servers: Servers) -> None:
        """Counts to 0 and an empty Redis; the rows of videos stay."""
        servers.redis_client(self.redis_db).flushdb()
        for table in self.tables()[:-1]:
            servers.sql(f"DELETE FROM {table}", database=self.database)
        changed = "like_count <> 0 OR view_count <> 0 OR flushed_batch <> 0"
        servers.sql(f"UPDATE videos_video SET like_count = 0, view_count = 0, flushed_batch = 0 WHERE {changed}")

    def views_counted(self, servers: Servers) -> int:
        client = servers.redis_client(self.redis_db)
        pending = [client.hgetall(key) for key in client.scan_iter("{videos:*}:pending")]
        return sum(int(views) for fields in pending for name, views in fields.items() if name.startswith(b"v:"))


@dataclass(frozen=True)
class Recipe(Contender):
    """The recipe."""

    def video_sql(self, videos: int) -> str:
        return (
            "INSERT INTO recipe_video (id, title, good, views) "
            f"SELECT seq, CONCAT('Video ', seq), 0, 0 FROM seq_1_to_{videos}"
        )

    def views_stored(self, servers: Servers) -> dict[int, int]:
        return self._column(servers, "views")

    def likes_stored(self, servers: Servers) -> dict[int, int]:
        return self._column(servers, "good")

    def views_counted(self, servers: Servers) -> int:
        client = servers.redis_client(self.redis_db)
        keys = list(client.scan_iter("*VIDEO_VIEW::*", count=1000))
        return sum(int(views) for views in client.mget(keys)) if keys else 0


@dataclass(frozen=True)
class Rows(Contender):
    """Counting in the database: `F() + 1`, JOIN + COUNT."""

    def video_sql(self, videos: int) -> str:
        return (
            "INSERT INTO rows_video (id, title, like_count, view_count, created_at) "
            f"SELECT seq, CONCAT('Video ', seq), 0, 0, NOW() - INTERVAL seq SECOND FROM seq_1_to_{videos}"
        )

    def views_stored(self, servers: Servers) -> dict[int, int]:
        return self._column(servers, "view_count")

    def likes_stored(self, servers: Servers) -> dict[int, int]:
        return self._column(servers, "like_count")


@dataclass(frozen=True)
class Hits(Contender):
    """django-hitcount: its own view, with sessions that exist already, which is kind to it."""

    def tables(self) -> Sequence[str]:
        return ("hitcount_hit", "hitcount_hit_count", "django_session", "hits_video")

    def video_sql(self, videos: int) -> str:
        return f"INSERT INTO hits_video (id, title) SELECT seq, CONCAT('Video ', seq) FROM seq_1_to_{videos}"

    def fill(self, servers: Servers, *, users: int, videos: int) -> None:
        super().fill(servers, users=users, videos=videos)
        servers.sql(
            "INSERT INTO hitcount_hit_count (id, hits, modified, content_type_id, object_pk) SELECT seq, 0, NOW(), "
            "(SELECT id FROM django_content_type WHERE app_label = 'hits' AND model = 'video'), seq "
            f"FROM seq_1_to_{videos}"
        )

    def add_sessions(self, servers: Servers, viewers: Sequence[str]) -> None:
        """A session for each viewer, as an earlier visit left it."""
        code = "from django.contrib.sessions.backends.db import SessionStore; print(SessionStore().encode({}))"
        data = call(
            self.manage_command("shell", "--verbosity=0", "-c", code), self.environment(servers)
        ).stdout.split()[-1]
        for i in range(0, len(viewers), 5000):
            rows = ",".join(
                f"('{viewer.ljust(32, 'x')}', '{data}', NOW() + INTERVAL 14 DAY)" for viewer in viewers[i : i + 5000]
            )
            servers.sql(f"INSERT INTO django_session (session_key, session_data, expire_date) VALUES {rows}")

    def view(self, video: int, viewer: str) -> Request:
        token = "b" * 32  # CsrfViewMiddleware compares the cookie with the header
        headers = {
            "X-Requested-With": "XMLHttpRequest",
            "Content-Type": "application/x-www-form-urlencoded",
            "Cookie": f"csrftoken={token}; sessionid={viewer.ljust(32, 'x')}",
            "X-CSRFToken": token,
        }
        return Request("POST", "/hitcount/hit/ajax/", body=f"hitcountPK={video}", headers=headers)

    def views_stored(self, servers: Servers) -> dict[int, int]:
        found = servers.sql("SELECT object_pk, hits FROM hitcount_hit_count WHERE hits <> 0", database=self.database)
        return dict(found)


OURS = Ours(
    "ours", "this service", "streaming.wsgi:application", "benchmarks.settings", "videos", "bench_ours",
    flush_command=("flush_counters",), manage=("manage.py",),
)  # fmt: skip
RECIPE = Recipe(
    "recipe", "recipe (INSERT, INCR)", "benchmarks.recipe.wsgi:application", "benchmarks.recipe.settings", "recipe",
    "bench_recipe", 1, flush_command=("flush_recipe",),
)  # fmt: skip
ROWS = Rows(
    "rows", "F() + 1 in the request", "benchmarks.rows.wsgi:application", "benchmarks.rows.settings", "rows",
    "bench_rows", 2,
)  # fmt: skip
HITS = Hits(
    "hits", "django-hitcount", "benchmarks.hits.wsgi:application", "benchmarks.hits.settings", "hits", "bench_hits", 3
)
# The ceilings answer the same requests on the service's own keys and videos, so they share its databases.
PLAIN = Ours(
    "plain", "plain Django view, one Redis call", "benchmarks.ceilings.plain:application",
    "benchmarks.ceilings.plain_settings", "videos", "bench_ours",
)  # fmt: skip
BARE = Ours(
    "bare", "bare WSGI function, one Redis call", "benchmarks.ceilings.bare:application", None, "videos", "bench_ours"
)
FIXED = Ours(
    "fixed",
    "bare WSGI function that asks nobody",
    "benchmarks.ceilings.fixed:application",
    None,
    "videos",
    "bench_ours",
)
ALL = (OURS, RECIPE, ROWS, HITS, PLAIN, BARE, FIXED)


def prepare(servers: Servers, contenders: Sequence[Contender]) -> None:
    """Make the databases of these contenders, each once."""
    done: set[str] = set()
    for contender in sorted(contenders, key=lambda one: one is not OURS):
        if contender.database not in done:
            (OURS if contender.database == OURS.database else contender).migrate(servers)
            done.add(contender.database)


def write_lines(path: Path, lines: Sequence[str]) -> Path:
    """A file with one line each."""
    path.write_text("\n".join(lines) + "\n")
    return path
