"""The contenders: this service, the alternatives and the ceilings. All are sent the same likes and views."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.contender import Contender
from benchmarks.traffic import Request
from benchmarks.wire import Scripts
from servers import PYTHON, ROOT, Servers, StartFailed, call

PIPELINE = 5_000


@dataclass(frozen=True)
class Ours(Contender):
    """This service."""

    def environment(self, servers: Servers) -> dict[str, str]:
        return {**super().environment(servers), "SCRIPTS": " ".join(self.scripts(servers).shas)}

    def views_counted(self, servers: Servers) -> int:
        return self.scripts(servers).pending_views()

    def scripts(self, servers: Servers) -> Scripts:
        """The service's scripts on its Redis, by the harness' own client."""
        return Scripts.loaded(servers.redis_client(self.redis_db))

    def fill(self, servers: Servers, *, users: int, videos: int) -> None:
        super().fill(servers, users=users, videos=videos)
        self.meet(servers)

    def meet(self, servers: Servers) -> None:
        """Let Redis and the database meet, by a flush of nothing. Before, the scripts answer UNMET."""
        (OURS if self.database == OURS.database else self).flush(servers)  # the ceilings have no manage.py of ours

    def forget_counts(self, servers: Servers) -> None:
        """Counts to 0 and a Redis that has only met the database; the rows of videos stay."""
        servers.redis_client(self.redis_db).flushdb()
        for (table,) in servers.sql("SHOW TABLES LIKE 'videos\\_%%'", database=self.database):
            if table != "videos_video":
                servers.sql(f"DELETE FROM {table}")
        changed = "like_count <> 0 OR view_count <> 0 OR flushed_batch <> 0"
        servers.sql(f"UPDATE videos_video SET like_count = 0, view_count = 0, flushed_batch = 0 WHERE {changed}")
        self.meet(servers)

    def flush_all(self, servers: Servers, kind: str, changed: int) -> float:
        """Flush once; the seconds that it took, its process' start left out. All changes must have arrived."""
        report = self.flush(servers)
        arrived = report["likes_added"] if kind == "likes" else report["views"]
        if changed != arrived or not report["complete"] or report["failures"]:
            raise StartFailed(f"Of {changed} changed {kind} {arrived} arrived: {report}")
        return float(report["seconds"])

    def flush_with_peak(self, servers: Servers) -> tuple[dict[str, Any], int]:
        """Flush in a process of its own; what it reported, and its peak memory in bytes (`ru_maxrss`)."""
        command = self.manage_command(*self.flush_command)
        told = json.loads(call([PYTHON, "-c", _WITH_PEAK, *command], self.environment(servers)).stdout)
        return json.loads(told["said"].splitlines()[-1]), told["peak_kib"] * 1024


# A process of its own between: a child's `ru_maxrss` begins with the size of the process that it was forked from.
_WITH_PEAK = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, text=True)
print(json.dumps({"said": done.stdout, "peak_kib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss}))
sys.exit(done.returncode)
"""


@dataclass(frozen=True)
class Recipe(Contender):
    """The recipe."""

    def views_counted(self, servers: Servers) -> int:
        client = servers.redis_client(self.redis_db)
        keys = list(client.scan_iter("*VIDEO_VIEW::*", count=1000))
        return sum(int(views) for views in client.mget(keys)) if keys else 0

    def set_keys(self, servers: Servers, kind: str, videos: Sequence[int], value: int) -> None:
        """The keys of these videos, as its cache writes them."""
        prefix = {"views": "VIDEO_VIEW", "likes": "VIDEO_LIKE"}[kind]
        client = servers.redis_client(self.redis_db)
        for i in range(0, len(videos), PIPELINE):
            client.mset({f":1:{prefix}::{video}": value for video in videos[i : i + PIPELINE]})

    def flush_all(self, servers: Servers, keys: int, *, one_transaction: bool) -> float:
        """Run its loop once; its seconds. It must have seen so many keys."""
        report = self.flush(servers, *(["--one-transaction"] if one_transaction else []))
        if report["keys"] != keys:
            raise StartFailed(f"The recipe saw {report['keys']} keys of {keys}.")
        return float(report["seconds"])


@dataclass(frozen=True)
class Hits(Contender):
    """django-hitcount: its own view, with sessions that exist already, which is kind to it."""

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
        shell = self.manage_command("shell", "--verbosity=0", "-c", code)
        data = call(shell, self.environment(servers)).stdout.split()[-1]
        for i in range(0, len(viewers), PIPELINE):
            rows = ",".join(
                f"('{viewer.ljust(32, 'x')}', '{data}', NOW() + INTERVAL 14 DAY)"
                for viewer in viewers[i : i + PIPELINE]
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
        return self._stored(servers, "SELECT object_pk, hits FROM hitcount_hit_count WHERE hits <> 0")


OURS = Ours(
    "ours", "this service", "videos", "bench_ours", 0, wsgi="streaming.wsgi:application",
    manage=(str(ROOT / "manage.py"),), flush_command=("flush_counters", "--json"),
    variables={"DJANGO_SETTINGS_MODULE": "benchmarks.settings"},
)  # fmt: skip
RECIPE = Recipe(
    "recipe", "recipe (INSERT, INCR)", "recipe", "bench_recipe", 1, flush_command=("flush",), likes_column="good",
    views_column="views",
)  # fmt: skip
ROWS = Contender("rows", "F() + 1 in the request", "rows", "bench_rows", 2)
HITS = Hits("hits", "django-hitcount", "hits", "bench_hits", 3)
# The ceilings answer the same requests on the service's own keys and videos, so they share its databases.
PLAIN = Ours("plain", "plain Django view, one Redis call", "videos", "bench_ours", 0)
BARE = Ours(
    "bare", "bare WSGI function, one Redis call", "videos", "bench_ours", 0, "benchmarks.alternatives.bare:application"
)
FIXED = Ours(
    "fixed", "bare WSGI function with a fixed answer", "videos", "bench_ours", 0, "benchmarks.alternatives.bare:fixed"
)
ALL = (OURS, RECIPE, ROWS, HITS, PLAIN, BARE, FIXED)


def prepare(servers: Servers, contenders: Sequence[Contender]) -> None:
    """Make the databases of these contenders; those of the ceilings are this service's own."""
    for contender in dict.fromkeys(OURS if one.database == OURS.database else one for one in contenders):
        contender.migrate(servers)
