"""Measures the function's zip on this machine: python -m tests.support.measure_function [--fields 100000]

Cold start, warm run, memory, and how much one invocation moves, on a MariaDB and a Redis of its own. Prints the tables
of docs/deployment.md. CPU seconds are the process' own: what Lambda's share of a processor stretches, and it bills.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import redis

from servers import ROOT, MariaDBServer, RedisServer
from tests.support import packages
from tests.support.runtime_api import Invocation, LambdaFunction, make_image, scheduled_event

ROUNDS = 5
VIDEOS = 20_000
USERS = 50_000
SHARDS = 16
PIPELINE = 5_000
ROWS = """
INSERT INTO {table} ({columns}) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
SELECT {values} FROM n
"""


def main() -> None:
    """Start the servers, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fields", type=int, default=100_000, help="pending changes of one run")
    parser.add_argument("--large", type=int, default=1_000_000, help="pending changes of the largest run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with MariaDBServer(folder / "database") as database, RedisServer(folder / "redis") as counters:
            measure(folder, database, counters, arguments.fields, arguments.large)


def measure(folder: Path, database: MariaDBServer, counters: RedisServer, fields: int, large: int) -> None:
    """All of it, table by table."""
    built = packages.build(ROOT, folder / "package.zip")
    if built.returncode:
        sys.exit(built.stderr)
    task = packages.unpack(folder / "package.zip", folder / "task")
    (folder / "image").mkdir()
    image = make_image(folder / "image")
    environment = {"DATABASE_URL": database.url, "REDIS_URL": counters.url, "SECRET_KEY": "x" * 50}
    environment |= {"ALLOWED_HOSTS": "localhost", "INSTANTIATE_LAMBDA_HANDLER_ON_IMPORT": "1"}
    command = [sys.executable, str(ROOT / "manage.py"), "migrate", "-v0"]
    subprocess.run(command, env={**os.environ, **environment, "STREAMING_ENV_FILE": os.devnull}, check=True)
    fill(database)
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, MariaDB and Redis on the same machine\n")
    starts = []
    for _ in range(ROUNDS):
        with closing(LambdaFunction(task, image, folder, environment=environment)) as function:
            starts.append((function.invoke(scheduled_event()), function.invoke(scheduled_event())))
    cold, warm = [pair[0] for pair in starts], [pair[1] for pair in starts]
    table(
        ("what", "median"),
        [
            ("cold start: process until it asks for an event", f"{median(c.init_seconds for c in cold):.2f} s"),
            ("first event, nothing pending", f"{median(c.seconds for c in cold) * 1000:.0f} ms"),
            ("warm event, nothing pending", f"{median(w.seconds for w in warm) * 1000:.0f} ms"),
            ("peak memory, nothing pending", f"{median(w.peak_mb for w in warm):.0f} MB"),
        ],
    )
    with closing(LambdaFunction(task, image, folder, environment=environment, timeout_seconds=900)) as function:
        function.invoke(scheduled_event())
        rows = [
            run(function, counters, "likes of as many users", likes(fields)),
            run(function, counters, "unlikes", likes(fields, wish=0)),
            run(function, counters, "views, a video and hour each", views(fields)),
            run(function, counters, "likes of one video", likes(USERS, videos=1)),
            run(function, counters, "likes and views", [*likes(large // 2), *views(large // 2)]),
        ]
    table(("pending", "changes", "seconds", "changes/s", "CPU s", "CPU s a million", "peak MB"), rows)


def run(
    function: LambdaFunction, counters: RedisServer, name: str, fields: Iterable[tuple[int, str, str]]
) -> tuple[str, ...]:
    """Put changes into Redis as the scripts write them, and let one invocation move them all."""
    count = put(counters.client(), fields)
    before = cpu_seconds(function)
    outcome: Invocation = function.invoke(scheduled_event())
    used = cpu_seconds(function) - before
    if outcome.error or outcome.payload["applied"] != count:
        raise SystemExit(f"{name}: of {count} changes not all arrived: {outcome.payload or outcome.error}")
    rates = f"{outcome.seconds:.1f}", f"{count / outcome.seconds:,.0f}", f"{used:.1f}", f"{used / count * 1e6:.0f}"
    return name, f"{count:,}", *rates, f"{outcome.peak_mb:.0f}"


def put(client: redis.Redis, fields: Iterable[tuple[int, str, str]]) -> int:
    """Pending fields in their shards; through the scripts it would take longer than the run."""
    shards: dict[int, dict[str, str]] = {}
    for video, name, value in fields:
        shards.setdefault(video % SHARDS, {})[name] = value
    for shard, held in shards.items():
        names = list(held)
        for i in range(0, len(names), PIPELINE):
            mapping: Any = {name: held[name] for name in names[i : i + PIPELINE]}
            client.hset(f"{{videos:{shard}}}:pending", mapping=mapping)
    return sum(map(len, shards.values()))


def likes(count: int, *, videos: int = VIDEOS, wish: int = 1) -> list[tuple[int, str, str]]:
    """So many changed likes, spread evenly over videos and users."""
    pairs = ((1 + i % videos, 1 + (i // videos + i % videos * 7) % USERS) for i in range(count))
    return [(video, f"l:{video}:{user}", f"{wish}:1760000000000") for video, user in pairs]


def views(count: int) -> list[tuple[int, str, str]]:
    """So many hours in which a video was watched."""
    return [(1 + i % VIDEOS, f"v:{1 + i % VIDEOS}:{489_000 + i // VIDEOS}", "3") for i in range(count)]


def fill(database: MariaDBServer) -> None:
    """Users and videos for the changes to be about."""
    user = "id, username, password, is_superuser, is_staff, is_active, first_name, last_name, email, date_joined"
    video = "id, title, description, url, duration, owner_id, created_at, like_count, view_count, flushed_batch"
    database.query("SET GLOBAL max_recursive_iterations = 10000000")
    values = "i, CONCAT('user', i), '!', 0, 0, 1, '', '', '', NOW()"
    database.query(ROWS.format(table="auth_user", columns=user, count=USERS, values=values), database="streaming")
    values = "i, CONCAT('video', i), '', 'https://example.com/v', 60, 1, NOW(), 0, 0, 0"
    database.query(ROWS.format(table="videos_video", columns=video, count=VIDEOS, values=values), database="streaming")


def cpu_seconds(function: LambdaFunction) -> float:
    """What the process has used so far."""
    fields = Path(f"/proc/{function.pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print a Markdown table."""
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print(flush=True)


if __name__ == "__main__":
    main()
