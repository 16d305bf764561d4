"""The main job: 100 users, 30,000 likes by distinct users over 1,000 videos, views beside them, a flush every 2 s."""

from __future__ import annotations

from collections import Counter

from benchmarks.contender import Contender
from benchmarks.contenders import OURS, RECIPE, prepare
from benchmarks.load import k6, warm
from benchmarks.results import Column, Result, Run, Table
from benchmarks.traffic import popular, tokens, write_lines
from servers import Servers, cpu_seconds

LIKES = 30_000
VIEWS = 6_000  # 20 watchers beside 100 likers: a fifth
VIDEOS = 1_000
LIKERS = 100
WATCHERS = 20
REPEATED_VIEWS = 10  # every tenth view is one that was seen before
FLUSH_EVERY_SECONDS = 2

TABLES = (
    Table(
        "run",
        "30,000 likes from 100 users at once, 6,000 views beside them, a flush every 2 s",
        (
            Column("rate", "likes/s", spread=True),
            Column("mean", "mean ms", "{:.1f}"),
            Column("p50", "p50 ms", "{:.1f}"),
            Column("p95", "p95 ms", "{:.1f}"),
            Column("p99", "p99 ms", "{:.1f}", spread=True),
            Column("view_rate", "views/s"),
            Column("view_p99", "view p99 ms", "{:.1f}"),
            Column("errors", "errors"),
            Column("likes_off", "likes off"),
            Column("rows_off", "rows off"),
            Column("views_off", "views off"),
        ),
    ),
)


def measure(run: Run) -> Result:
    """Rounds of ours and the recipe in turn."""
    result = Result("headline")
    prepare(run.servers, [OURS, RECIPE])
    rounds(run, result, [OURS, RECIPE])
    result.claim("run", "like rate, ours over the recipe", result.ratios("run", "ours", "recipe"), 3)
    p99 = result.ratios("run", "ours", "recipe", "p99")
    result.claim("run", "p99 of likes, ours over the recipe", p99, 1, at_least=False)
    wrong = [sum(result.series("run", "ours", key)) for key in ("likes_off", "rows_off", "views_off", "errors")]
    result.claim("run", "our errors in counts and answers, all rounds", [sum(wrong)], 0, at_least=False, exact=True)
    return result


def rounds(run: Run, result: Result, contenders: list[Contender]) -> None:
    """The same run by each contender in turn."""
    likes, views = run.size(LIKES, 600), run.size(VIEWS, 120)
    signed_in = tokens(likes)
    liked = popular(likes, VIDEOS, seed=1)
    watched = popular(views, VIDEOS, seed=2)

    def one(contender: Contender, number: int) -> None:
        contender.fill(run.servers, users=likes, videos=VIDEOS)
        values = _run_once(run.servers, contender, signed_in, liked, watched)
        result.add("run", contender.name, **values)
        run.say(f"  {number} {contender.name}: {values['rate']:,.0f} likes/s, p99 {values['p99']:.0f} ms, "
                f"off by {values['likes_off']:.0f}/{values['rows_off']:.0f}/{values['views_off']:.0f}")  # fmt: skip

    run.alternate(result, contenders, one)


def _run_once(
    servers: Servers, contender: Contender, signed_in: list[str], liked: list[int], watched: list[int]
) -> dict[str, float]:
    likes = [contender.like(video, token) for video, token in zip(liked, signed_in, strict=True)]
    # A repeat must be of the same video: it takes the line before it.
    lines = [i - 1 if i % REPEATED_VIEWS == REPEATED_VIEWS - 1 else i for i in range(len(watched))]
    views = [contender.view(watched[line], f"v{line:08d}") for line in lines]
    environment = {
        "LIKES": str(write_lines(servers.folder / "likes", [f"{r.method} {r.path} {r.token}" for r in likes])),
        "VIEWS": str(
            write_lines(servers.folder / "views", [f"{r.method} {r.path}\tapplication/json\t{r.body}" for r in views])
        ),
        "LIKERS": str(min(LIKERS, len(likes))),
        "WATCHERS": str(WATCHERS),
    }
    with contender.serving(servers) as site:
        warm(site, servers.folder)
        cpu_before = cpu_seconds(site.process.pids())
        with contender.flushing(servers, FLUSH_EVERY_SECONDS):
            metrics, console = k6("headline.js", servers.folder, {**environment, "BASE": site.url})
        cpu = cpu_seconds(site.process.pids()) - cpu_before
    contender.flush(servers)
    refused: dict[str, set[int]] = {"like": set(), "view": set()}
    errors = 0
    for said in console:
        kind, line, why = said.split()
        refused[kind].add(int(line))
        errors += why != "uncounted"
    acknowledged_likes = Counter(video for line, video in enumerate(liked) if line not in refused["like"])
    acknowledged_views = Counter(watched[line] for i, line in enumerate(lines) if i not in refused["view"])
    like_seconds, view_seconds = (
        (metrics[at]["max"] - metrics[at]["min"]) / 1000 for at in ("like_at", "view_at")
    )  # fmt: skip
    return {
        "rate": (len(liked) - len(refused["like"])) / like_seconds,
        "mean": metrics["like_ms"]["avg"],
        "p50": metrics["like_ms"]["med"],
        "p95": metrics["like_ms"]["p(95)"],
        "p99": metrics["like_ms"]["p(99)"],
        "view_rate": (len(watched) - len(refused["view"])) / view_seconds,
        "view_p99": metrics["view_ms"]["p(99)"],
        "errors": float(errors),
        "likes_off": float(differences(acknowledged_likes, contender.likes_stored(servers))),
        "rows_off": float(differences(acknowledged_likes, contender.like_rows(servers))),
        "views_off": float(differences(acknowledged_views, contender.views_stored(servers))),
        "web_cpu": cpu,
    }


def differences(expected: Counter[int], found: dict[int, int]) -> int:
    """By how much the counts differ, over all videos."""
    return sum(abs(expected.get(video, 0) - found.get(video, 0)) for video in expected.keys() | found.keys())
