"""The flush: everything changed, 1 % of 1,000,000 changed, its memory; and whether one flusher keeps up."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from benchmarks.contenders import OURS, RECIPE, prepare
from benchmarks.load import warm, wrk
from benchmarks.results import Column, Result, Run, Table
from benchmarks.traffic import distinct_pairs, popular, tokens, write_requests
from servers import StartFailed, start

CHANGED = 100_000
USERS = 30_000
MANY_VIDEOS = 1_000_000
MANY_FIELDS = 1_000_000
MEBIBYTE = 1024 * 1024
PACE_USERS = 20_000
PACE_VIDEOS = 1_000
VIEW_EVERY = 6  # as in the headline: five likes for a view
FLUSH_EVERY_SECONDS = 5

_COLUMNS = (
    Column("seconds", "seconds", "{:.2f}", spread=True),
    Column("per_second", "changes/s"),
)
TABLES = (
    Table("views", "flush of views on 100,000 videos", _COLUMNS),
    Table("likes", "flush of likes on 100,000 videos, one each", _COLUMNS),
    Table("one_percent", "1,000,000 videos, views on 10,000 of them", _COLUMNS),
    Table("memory", "flush of 1,000,000 pending fields", (*_COLUMNS, Column("peak_mb", "peak MiB"))),
    Table(
        "pace",
        "likes and views as fast as they are taken, `flush_counters --every 5` beside them",
        (
            Column("taken", "requests/s", spread=True),
            Column("moved", "fields moved/s of flushing", spread=True),
            Column("room", "moved over taken", "{:.2f}", spread=True),
            Column("busy", "share of time spent flushing", "{:.0%}", spread=True),
            Column("left", "fields left at the end"),
        ),
    ),
)
LABELS = {
    "recipe": "recipe's loop, a commit for each key",
    "recipe_one": "recipe's loop, one transaction",
    "ours_one_video": "this service, all of it likes of one video",
}


def measure(run: Run) -> Result:
    """Each case in rounds; memory once."""
    result = Result("flush")
    prepare(run.servers, [OURS, RECIPE])
    for kind in ("views", "likes"):
        _everything_changed(run, result, kind, run.size(CHANGED, 500))
    _one_percent(run, result, run.size(MANY_VIDEOS, 2_000))
    _memory(run, result, run.size(MANY_FIELDS, 5_000))
    _pace(run, result)
    return result


def _everything_changed(run: Run, result: Result, kind: str, changed: int) -> None:
    """Against the recipe's loop as it stands, and against one that commits once."""
    servers = run.servers

    def one(name: str, number: int) -> None:
        if name == "ours":
            OURS.fill(servers, users=USERS, videos=changed)
            OURS.scripts(servers).gather(videos=changed, users=USERS, **{kind: changed})
            _note(run, result, kind, name, number, changed, OURS.flush_all(servers, kind, changed))
        else:
            RECIPE.fill(servers, users=10, videos=changed)
            RECIPE.set_keys(servers, kind, range(1, changed + 1), 1)
            seconds = RECIPE.flush_all(servers, changed, one_transaction=name == "recipe_one")
            _note(run, result, kind, name, number, changed, seconds)

    run.alternate(result, ["ours", "recipe_one", "recipe"], one)
    what = f"flush of {changed:,} changed {kind}, the time of the recipe's loop"
    for how, name in (("", "recipe"), (" in one transaction", "recipe_one")):
        result.claim(kind, f"{what}{how} over ours", result.ratios(kind, name, "ours", "seconds"), 5)


def _one_percent(run: Run, result: Result, videos: int) -> None:
    """Every video has been counted before; since the last flush one in a hundred has changed."""
    servers, changed = run.servers, videos // 100
    RECIPE.fill(servers, users=10, videos=videos)
    RECIPE.set_keys(servers, "views", range(1, videos + 1), 1)
    servers.sql("UPDATE recipe_video SET views = 1", database=RECIPE.database)  # as a flush would, but in seconds
    OURS.fill(servers, users=10, videos=videos)

    def one(name: str, number: int) -> None:
        if name == "ours":
            OURS.forget_counts(servers)
            OURS.scripts(servers).gather(videos=changed, views=changed)
            seconds = OURS.flush_all(servers, "views", changed)
        else:
            RECIPE.set_keys(servers, "views", range(number, videos + 1, 100), number + 1)
            seconds = RECIPE.flush_all(servers, videos, one_transaction=True)
        _note(run, result, "one_percent", name, number, changed, seconds)

    run.alternate(result, ["ours"], one)
    run.alternate(result, ["recipe_one"], one, at_most=1)  # four minutes
    (recipe,) = result.series("one_percent", "recipe_one", "seconds")
    ratios = [recipe / seconds for seconds in result.series("one_percent", "ours", "seconds")]
    result.claim("one_percent", "flush when 1 % changed, the recipe's time over ours", ratios, 100)


def _note(run: Run, result: Result, table: str, name: str, number: int, changed: int, seconds: float) -> None:
    result.add(table, name, seconds=seconds, per_second=changed / seconds)
    run.say(f"  {number} {table} {name}: {seconds:.2f} s")


def _memory(run: Run, result: Result, fields: int) -> None:
    """Half of the fields likes, half views, over a fifth as many videos; then as many likes as 500,000 on one video."""
    servers, videos = run.servers, fields // 5
    now = int(time.time())
    wish = f"1:{now * 1000}"
    OURS.fill(servers, users=USERS, videos=videos)
    pending = OURS.scripts(servers).put_pending
    pending(
        (video, f"l:{video}:{user}", wish) for video in range(1, videos // 2 + 1) for user in range(1, 6)
    )  # fmt: skip
    pending(
        (video, f"v:{video}:{now // 3600 - hour}", "3")
        for video in range(videos // 2 + 1, videos + 1)
        for hour in range(5)
    )
    _memory_of(run, result, "ours", fields)
    OURS.fill(servers, users=fields // 2, videos=10)
    pending((1, f"l:1:{user}", wish) for user in range(1, fields // 2 + 1))
    _memory_of(run, result, "ours_one_video", fields // 2)
    peak = result.series("memory", "ours", "peak_mb")
    result.claim("memory", "peak MiB of flushing 1,000,000 fields", peak, 400, at_least=False)


def _memory_of(run: Run, result: Result, name: str, fields: int) -> None:
    report, peak = OURS.flush_with_peak(run.servers)
    if report["applied"] != fields:
        raise StartFailed(f"Of {fields} fields {report['applied']} were applied: {report}")
    seconds = report["seconds"]
    result.add("memory", name, seconds=seconds, per_second=fields / seconds, peak_mb=peak / MEBIBYTE)
    run.say(f"  memory {name}: {peak / MEBIBYTE:.0f} MiB, {seconds:.1f} s")


def _pace(run: Run, result: Result) -> None:
    """Likes and views as fast as the web side takes them, with one flush loop beside them."""
    servers = run.servers
    signed_in = tokens(PACE_USERS)
    number, seconds = run.size(200_000, 20_000), run.size(16, 3)
    watched = popular(number, PACE_VIDEOS, seed=22)
    requests = [
        OURS.view(watched[i], f"p{i}") if i % VIEW_EVERY == 0 else OURS.like(video, signed_in[user - 1])
        for i, (user, video) in enumerate(distinct_pairs(PACE_USERS, PACE_VIDEOS, number, seed=21))
    ]
    path = write_requests(servers.folder / "pace", requests)

    def one(_: str, number: int) -> None:
        OURS.fill(servers, users=PACE_USERS, videos=PACE_VIDEOS)
        log = servers.folder / "flush-pace.log"
        log.unlink(missing_ok=True)
        command = OURS.manage_command(*OURS.flush_command, "--every", str(run.size(FLUSH_EVERY_SECONDS, 1)))
        with OURS.serving(servers) as site:
            warm(site, servers.folder)
            process = start("flush-pace", command, servers.folder, OURS.environment(servers))
            time.sleep(2)  # its start
            seen = len(_reports(log))
            load = wrk(site, path, seconds=seconds)
            left = OURS.scripts(servers).pending_fields()
            reports = _reports(log)[seen:]
            process.stop()
        if load.errors or any(report["failures"] for report in reports):
            raise StartFailed(f"{load.errors} requests failed, or a flush did: {reports}")
        flushing = sum(report["seconds"] for report in reports)
        moved = sum(report["fields"] for report in reports) / flushing
        values = {
            "taken": load.rate,
            "moved": moved,
            "room": moved / load.rate,
            "left": left,
            "busy": flushing / seconds,
        }
        result.add("pace", "ours", **values)
        run.say(f"  {number} pace: {load.rate:,.0f} taken, {moved:,.0f} moved a second, {left} left")

    run.alternate(result, ["ours"], one)
    what = "changes that a flusher moves over those that the web side takes, a second"
    result.claim("pace", what, result.series("pace", "ours", "room"), 1.25)


def _reports(log: Path) -> list[dict[str, Any]]:
    """What each run of the loop said of itself."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [json.loads(line) for line in lines if line.startswith("{")]
