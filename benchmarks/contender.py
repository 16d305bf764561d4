"""What every contender has: how it is set up, started and asked."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.traffic import SECRET_KEY, Request
from servers import PYTHON, ROOT, Process, Servers, call, free_port, granian, listens, serve, start
from servers.web import SERVICE

WORKERS = os.cpu_count() or 1
THREADS = 4  # a write waits for the disk that holds Redis' file; meanwhile the worker serves other requests
# What the columns of a video's row are filled with; every other column gets 0 or an empty text.
VIDEO = {
    "id": "seq", "title": "CONCAT('Video ', seq)", "url": "CONCAT('https://example.org/', seq)", "duration": "300",
    "owner_id": "1", "created_at": "NOW() - INTERVAL seq SECOND",
}  # fmt: skip


@dataclass(frozen=True)
class Contender:
    """One way to count: its project, its database, and how its requests look."""

    name: str
    label: str
    app: str  # prefix of its tables
    database: str
    redis_db: int
    wsgi: str = "benchmarks.alternatives.wsgi:application"  # what granian loads
    manage: Sequence[str] = ("-m", "benchmarks.alternatives")
    flush_command: Sequence[str] = ()  # arguments of its manage.py for a flush; empty where it has none
    likes_column: str = "like_count"
    views_column: str = "view_count"
    root: Path = ROOT  # of its code
    python: Path = PYTHON
    variables: dict[str, str] = field(default_factory=dict, hash=False)  # of its processes' environment

    def environment(self, servers: Servers) -> dict[str, str]:
        """The environment of its processes."""
        return {
            **os.environ,
            "PYTHONPATH": str(self.root),
            "DJANGO_SETTINGS_MODULE": "benchmarks.alternatives.settings",
            "ALTERNATIVE": self.name,
            "SECRET_KEY": SECRET_KEY,
            "DATABASE_URL": servers.database_url(self.database),
            "REDIS_URL": servers.redis_url(self.redis_db),
            "ALLOWED_HOSTS": "127.0.0.1,localhost",
            "SECURE_SSL_REDIRECT": "0",
            "TOKEN_MINUTES": "600",
            "STREAMING_ENV_FILE": os.devnull,  # never the settings of a running script/server
            "PYTHONWARNINGS": "ignore",
            "LOG_LEVEL": "WARNING",
            **self.variables,
        }

    def manage_command(self, *arguments: str) -> list[str]:
        """Its manage.py with these arguments."""
        return [str(self.python), *self.manage, *arguments]

    # Its requests

    def like(self, video: int, token: str, *, liked: bool = True) -> Request:
        """A signed-in user likes a video, or likes it no longer."""
        return Request("PUT" if liked else "DELETE", f"/api/videos/{video}/like/", token)

    def view(self, video: int, viewer: str) -> Request:
        """A viewer has watched a video."""
        return Request("POST", f"/api/videos/{video}/view/", body=f'{{"viewer":"{viewer}"}}')

    # Its data

    def migrate(self, servers: Servers) -> None:
        """Make its database anew: by its own command once a run, then as a copy of what that made."""
        migrated = f"migrated_{self.app}" if self.root == ROOT else f"migrated_{self.name}"
        if not servers.sql("SHOW DATABASES LIKE %s", migrated):
            servers.sql(f"CREATE DATABASE {migrated}")
            command = self.manage_command("migrate", "--verbosity=0", "--run-syncdb")
            call(command, replace(self, database=migrated).environment(servers))
        servers.copy_database(migrated, self.database)

    def fill(self, servers: Servers, *, users: int, videos: int) -> None:
        """Users 1..users and videos 1..videos, with no counts, and an empty Redis."""
        servers.redis_client(self.redis_db).flushdb()
        servers.sql("SET FOREIGN_KEY_CHECKS = 0", database=self.database)
        for (table,) in servers.sql("SHOW TABLES"):
            if table.startswith((f"{self.app}_", "hitcount_", "django_session")):
                servers.sql(f"TRUNCATE TABLE {table}")
        servers.sql("SET FOREIGN_KEY_CHECKS = 1")
        have = int(servers.sql("SELECT COUNT(*) FROM auth_user")[0][0])
        if have < users:
            servers.sql(
                "INSERT INTO auth_user (id, password, is_superuser, username, first_name, last_name, email, is_staff, "
                f"is_active, date_joined) SELECT seq, '!', 0, CONCAT('user', seq), '', '', '', 0, 1, NOW() "
                f"FROM seq_{have + 1}_to_{users}"
            )
        columns = servers.sql(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = %s AND table_name = %s",
            self.database, f"{self.app}_video",
        )  # fmt: skip
        values = {name: VIDEO.get(name, "''" if kind in {"varchar", "longtext"} else "0") for name, kind in columns}
        servers.sql(
            f"INSERT INTO {self.app}_video ({', '.join(values)}) SELECT {', '.join(values.values())} "
            f"FROM seq_1_to_{videos}"
        )

    def add_likes(self, servers: Servers, video: int, first: int, last: int) -> None:
        """Like rows of a video, by users first..last."""
        servers.sql(
            f"INSERT INTO {self.app}_videolike (video_id, user_id, created_at) "
            f"SELECT {video}, seq, NOW() FROM seq_{first}_to_{last}", database=self.database,
        )  # fmt: skip

    def likes_stored(self, servers: Servers) -> dict[int, int]:
        """Stored likes by video, zeros left out."""
        return self._stored(servers, f"SELECT id, {self.likes_column} FROM {self.app}_video WHERE {self.likes_column}")

    def views_stored(self, servers: Servers) -> dict[int, int]:
        """Stored views by video, zeros left out."""
        return self._stored(servers, f"SELECT id, {self.views_column} FROM {self.app}_video WHERE {self.views_column}")

    def like_rows(self, servers: Servers) -> dict[int, int]:
        """Like rows by video."""
        return self._stored(servers, f"SELECT video_id, COUNT(*) FROM {self.app}_videolike GROUP BY 1")

    def _stored(self, servers: Servers, query: str) -> dict[int, int]:
        return dict(servers.sql(query, database=self.database))

    def views_counted(self, servers: Servers) -> int:
        """Views counted since `fill`, all videos together, before any flush."""
        return sum(self.views_stored(servers).values())

    # Its processes

    @contextmanager
    def serving(
        self, servers: Servers, *, server: str = "", workers: int = WORKERS, threads: int = THREADS
    ) -> Iterator[Site]:
        """Its web server, ready to answer: its own where it has one, else granian."""
        port = free_port()
        quiet = ("--log-level", "warning")
        if not server:
            own = self.wsgi == SERVICE and (self.root / "streaming" / "serve").is_dir()
            server = "serve" if own else "granian"
        if server == "serve":
            command = serve(
                port, workers=workers, threads=threads, options=("--log-level", "warning"), python=self.python
            )
        elif server == "granian":
            quiet = ("--log-level", "warning")
            command = granian(
                port, application=self.wsgi, workers=workers, threads=threads, options=quiet, python=self.python
            )
        else:
            kind = "gthread" if threads > 1 else "sync"
            command = [
                self.python.parent / server, "--bind", f"127.0.0.1:{port}", "--workers", str(workers),
                "--worker-class", kind, "--threads", str(threads), "--log-level", "warning", self.wsgi,
            ]  # fmt: skip
        # granian imports from the folder that it runs in, whatever its options and PYTHONPATH say.
        command = ["env", "-C", self.root, *command]
        process = start(f"web-{self.name}", command, servers.folder, self.environment(servers))
        try:
            process.wait_until(lambda: listens(port) and len(process.pids()) > workers)
            yield Site(process, f"http://127.0.0.1:{port}")
        finally:
            process.stop()

    @contextmanager
    def flushing(self, servers: Servers, every_seconds: float) -> Iterator[Process]:
        """Its flush loop; at the end it gets SIGTERM and finishes its run."""
        command = self.manage_command(*self.flush_command, "--every", f"{every_seconds:g}")
        process = start(f"flush-{self.name}", command, servers.folder, self.environment(servers))
        try:
            yield process
        finally:
            process.stop()

    def flush(self, servers: Servers, *arguments: str) -> dict[str, Any]:
        """Flush once, in a process of its own; what it reported."""
        done = call(self.manage_command(*self.flush_command, *arguments), self.environment(servers))
        report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return report


@dataclass(frozen=True)
class Site:
    """A contender that is being served."""

    process: Process
    url: str
