"""Two commits in one run, `script/bench [rates] [headline] --against COMMIT`: this checkout beside another commit.

The other commit is checked out as a temporary git worktree. Both are served by the same kind of web server, with the
same settings, on the same database and Redis, and are asked in turns. Only what every commit has is used: manage.py,
HTTP, and the columns of videos and of users. A commit with other pins gets an environment of its own, which its own
`script/bench` makes.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

from benchmarks import headline
from benchmarks.contender import Contender, Site
from benchmarks.contenders import OURS
from benchmarks.load import CONNECTIONS, wrk
from benchmarks.rates import toggles
from benchmarks.results import Column, Figure, Result, Run
from benchmarks.traffic import Request, popular, tokens, write_requests
from servers import PYTHON, ROOT, StartFailed, call, cpu_seconds

TOPICS = ("rates", "headline")
USERS = 5_000  # so few that both sides remember all of their tokens
VIDEOS = 1_000
SECONDS = 2  # of a window
WINDOWS = 4  # of each side in a round
PREPARED = 40_000  # views of one window, more than the quickest can take

_LATENCIES = (Column("p50", "p50 ms", "{:.2f}"), Column("p99", "p99 ms", "{:.2f}"))
COLUMNS = {
    "view": (
        Column("rate", "requests/s"), *_LATENCIES,
        Column("web_cpu", "web CPU, µs a request", "{:.1f}"), Column("redis_cpu", "Redis CPU, µs a request", "{:.1f}"),
        Column("errors", "errors"),
    ),
    "run": (
        Column("rate", "likes/s"), *_LATENCIES, Column("view_rate", "views/s"),
        Column("view_p99", "view p99 ms", "{:.2f}"), Column("web_cpu", "web CPU s", "{:.2f}"),
        Column("errors", "errors"),
    ),
}  # fmt: skip
TITLES = {"view": "warm view", "like": "warm like", "run": "headline"}


def compare(run: Run, topics: Sequence[str], commit: str) -> int:
    """Measure both in turns, print the ratios; 1 when counts are off."""
    result = Result("against")
    with _sides(run, commit) as sides:
        for side in sides:
            side.migrate(run.servers)
        if "rates" in topics:
            _Rates(run, result, sides).measure()
        if "headline" in topics:
            headline.rounds(run, result, sides)
    for name, rows in result.tables.items():
        print(f"\n{table(result, name, [side.label for side in sides])}")
        # A request that was refused may have counted.
        off = [
            key for row in rows.values() for key in row if key.endswith("_off") and row[key].high > row["errors"].high
        ]
        if off:
            print(f"Counts are off: {', '.join(off)}", file=sys.stderr)
            return 1
    return 0


@contextmanager
def _sides(run: Run, commit: str) -> Iterator[list[Contender]]:
    """The other commit and this checkout, with the settings of this checkout's benchmarks."""
    folder = run.servers.folder
    tree = folder / "before"
    shutil.copy(ROOT / "benchmarks" / "settings.py", folder / "settings_of_both.py")

    def side(name: str, label: str, root: Path, python: Path, redis_db: int) -> Contender:
        variables = {"DJANGO_SETTINGS_MODULE": "settings_of_both", "PYTHONPATH": f"{root}:{folder}"}
        manage = (str(root / "manage.py"),)
        return replace(
            OURS, name=name, label=label, root=root, python=python, manage=manage, variables=variables,
            database=f"bench_{name}", redis_db=redis_db,
        )  # fmt: skip

    found = _git("rev-parse", "--short", f"{commit}^{{commit}}")
    _git("worktree", "add", "--detach", str(tree), found)
    try:
        now = side("now", "this checkout", ROOT, PYTHON, 0)
        yield [side("before", found, tree, _python(run, tree), 1), now]
    finally:
        _git("worktree", "remove", "--force", str(tree))


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StartFailed(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def _python(run: Run, tree: Path) -> Path:
    """The Python with what the other commit pins."""
    if _pins(tree) == _pins(ROOT):
        return PYTHON
    run.say("  other pins: an environment of its own")
    environment = ROOT / ".venv-bench-before"
    call([PYTHON, tree / "script" / "bench", "--help"], {**os.environ, "BENCH_VENV": str(environment)})
    return environment / "bin" / "python"


def _pins(root: Path) -> list[bytes]:
    return [path.read_bytes() for path in (*root.glob("*bench.txt"), *root.glob("requirements/*bench.txt"))]


class _Rates:
    """Warm views, then warm likes, a window each in turn, while both sides are served. Each round starts them anew.

    Between two starts of the same code the CPU time a request differs by some percent, so a single start of each side
    would compare the starts.
    """

    def __init__(self, run: Run, result: Result, sides: Sequence[Contender]) -> None:
        self.run, self.result, self.sides = run, result, sides
        self.users = run.size(USERS, 500)
        pairs = list(enumerate(popular(self.users, VIDEOS, seed=4), start=1))
        self.likes = toggles(pairs, tokens(self.users))
        self.viewers = count()
        self.views = {side.name: VIDEOS for side in sides}  # acknowledged
        self.unsure = dict.fromkeys(self.views, 0)  # may have counted: refused, or on the way at a window's end
        self.taken = dict.fromkeys(self.views, 0)  # likes since the start: where each side goes on
        self.sites: dict[str, Site] = {}

    def measure(self) -> None:
        """Rounds; then every acknowledged view must be in the rows."""
        servers = self.run.servers
        every = [OURS.view(video, "first") for video in range(1, VIDEOS + 1)]
        for side in self.sides:
            side.fill(servers, users=self.users, videos=VIDEOS)
        windows = replace(self.run, rounds=self.run.size(WINDOWS, 1))
        for turn in range(self.run.rounds):
            with ExitStack() as stack:
                for side in self.sides if turn % 2 else reversed(self.sides):
                    site = self.sites[side.name] = stack.enter_context(side.serving(servers))
                    self._send_all(site, every)
                    self._send_all(site, self.likes[: self.users])
                    self.taken[side.name] = self.users
                for name in ("view", "like"):
                    windows.alternate(self.result, self.sides, partial(self._window, name))
        for side in self.sides:
            side.flush(servers)
            stored, views = sum(side.views_stored(servers).values()), self.views[side.name]
            if not views <= stored <= views + self.unsure[side.name]:
                raise StartFailed(f"{side.label}: {views} views were acknowledged, {stored} are stored.")

    def _send_all(self, site: Site, requests: Sequence[Request]) -> None:
        """Send each at least once, until none is refused: then the site and its Redis are warm."""
        path, sent = write_requests(self.run.servers.folder / "all", requests), 0
        for _ in range(60):
            load = wrk(site, path, seconds=1, skip=sent)
            sent = 0 if load.errors else sent + load.requests
            if load.wrapped and not load.errors:
                return
        raise StartFailed("The site refused requests until the end while it was made warm.")

    def _window(self, name: str, side: Contender, number: int) -> None:
        site, servers = self.sites[side.name], self.run.servers
        if name == "view":
            drawn = popular(self.run.size(PREPARED, PREPARED // 2), VIDEOS, seed=number)
            requests = [side.view(video, f"v{next(self.viewers)}") for video in drawn]
        else:
            first = self.taken[side.name] % len(self.likes)
            requests = self.likes[first:] + self.likes[:first]
        path = write_requests(servers.folder / "window", requests)
        web, redis = site.process.pids(), servers.redis_server.pids()
        web_before, redis_before = cpu_seconds(web), cpu_seconds(redis)
        load = wrk(site, path, seconds=self.run.size(SECONDS, 1))
        each = 1e6 / max(1, load.requests)  # µs
        values = {"web_cpu": (cpu_seconds(web) - web_before) * each, "errors": float(load.errors),
                  "redis_cpu": (cpu_seconds(redis) - redis_before) * each}  # fmt: skip
        if name == "view" and load.wrapped:
            raise StartFailed(f"{side.label} takes more views than are prepared for a window: raise PREPARED.")
        (self.views if name == "view" else self.taken)[side.name] += load.requests
        self.unsure[side.name] += load.errors + CONNECTIONS
        self.result.add(name, side.name, rate=load.rate, p50=load.p50, p99=load.p99, **values)
        self.run.say(f"  {number} {name} {side.label}: {load.rate:,.0f}/s, {values['web_cpu']:.1f} µs of web CPU")


def table(result: Result, name: str, labels: Sequence[str]) -> str:
    """Medians of both sides and of the ratios within turns, with the lowest and the highest, and the middle half."""
    lines = [f"| {TITLES[name]} | {' | '.join(labels)} | ratio | half of the ratios |", "|---|---:|---:|---:|---:|"]
    for column in COLUMNS.get(name, COLUMNS["view"]):
        cells = [(column.form, result.tables[name][side][column.key]) for side in ("before", "now")]
        ratios = result.ratios(name, "now", "before", column.key)
        cells.append(("{:.3f}", Figure.of(ratios)))
        texts = [f"{form.format(f.median)} ({form.format(f.low)}–{form.format(f.high)})" for form, f in cells]
        first, _, third = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        lines.append(f"| {column.label} | {' | '.join(texts)} | {first:.3f}–{third:.3f} |")
    turns = result.tables[name]["now"]["rate"].rounds
    return "\n".join([*lines, f"\nTurns of each side: {turns}. Ratio: {labels[1]} over {labels[0]}, within a turn."])
