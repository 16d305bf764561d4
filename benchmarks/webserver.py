"""Which web server, how many workers and threads: measured with the service's own warm views and likes."""

from __future__ import annotations

from benchmarks.contenders import OURS, prepare
from benchmarks.flush import gather
from benchmarks.load import warm, write_requests, wrk
from benchmarks.results import Column, Result, Run, Table
from benchmarks.traffic import popular
from servers import StartFailed

VIDEOS = 1_000
PREPARED = 60_000
SECONDS = 3
# server, workers, threads a worker
CHOICES = (
    ("granian", 1, 1), ("granian", 2, 1), ("granian", 2, 2), ("granian", 2, 4), ("granian", 2, 8),
    ("granian", 2, 16), ("granian", 4, 1), ("granian", 4, 4),
    ("gunicorn", 2, 1), ("gunicorn", 2, 8),
)  # fmt: skip

LABELS = {
    f"{server}_{workers}_{threads}": f"{server}, {workers} worker{'s' * (workers > 1)}, "
    f"{threads} thread{'s' * (threads > 1)} each"
    for server, workers, threads in CHOICES
}
TABLES = (
    Table(
        "view",
        "warm views",
        (
            Column("rate", "requests/s", spread=True),
            Column("p50", "p50 ms", "{:.1f}"),
            Column("p99", "p99 ms", "{:.1f}"),
            Column("errors", "errors"),
        ),
    ),
)


def measure(run: Run) -> Result:
    """Every choice in every round."""
    result = Result("webserver", "Choosing the web server")
    servers = run.servers
    prepare(servers, [OURS])
    drawn = popular(run.size(PREPARED, 2_000), VIDEOS, seed=17)
    path = write_requests(servers.folder / "webserver", [OURS.view(v, f"w{i}") for i, v in enumerate(drawn)])

    def one(choice: tuple[str, int, int], number: int) -> None:
        server, workers, threads = choice
        OURS.fill(servers, users=10, videos=VIDEOS)
        gather(servers, videos=VIDEOS)
        with OURS.serving(servers, server=server, workers=workers, threads=threads) as site:
            warm(site, servers.folder)
            load = wrk(site, path, seconds=run.size(SECONDS, 1))
        if load.errors:
            raise StartFailed(f"{load.errors} views failed on {choice}.")
        result.add("view", f"{server}_{workers}_{threads}", number, **load.values())
        run.say(f"  {number} {server} {workers}x{threads}: {load.rate:,.0f}/s, p99 {load.p99:.1f} ms")

    run.alternate(result, CHOICES[:: run.size(1, 9)], one, at_most=2)
    return result
