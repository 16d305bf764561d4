"""Growth: 1,000 to 1,000,000 videos, 1 to 500,000 likes on a video; the flush's time by what changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.contenders import OURS, Contender, Ours, prepare
from benchmarks.flush import flush_ours, gather
from benchmarks.load import Load, warm, write_requests, wrk
from benchmarks.plots import figure, save
from benchmarks.results import Column, Result, Run, Table
from benchmarks.traffic import popular, tokens
from servers import Servers, StartFailed

VIDEOS = (1_000, 10_000, 100_000, 1_000_000)
LIKES = (1, 1_000, 30_000, 500_000)  # rows of the one video that all like
CHANGED = (100, 1_000, 10_000, 100_000)  # of 1,000,000 videos
SECONDS = 3
PREPARED = 60_000
LIKERS = 20_000

_RATE = (
    Column("rate", "requests/s", spread=True),
    Column("p50", "p50 ms", "{:.2f}"),
    Column("p99", "p99 ms", "{:.2f}", spread=True),
)
TABLES = (
    Table("videos", "warm views, skewed over so many videos", _RATE),
    Table("likes", "likes of one video that has so many rows, state not known to Redis", _RATE),
    Table(
        "flush", "flush of so many changed videos of 1,000,000",
        (Column("seconds", "seconds", "{:.3f}", spread=True), Column("per_second", "changes/s")),
    ),
)  # fmt: skip
LABELS = {
    f"{table}_{size}": f"{size:,}" for table, sizes in (("videos", VIDEOS), ("likes", LIKES), ("flush", CHANGED))
    for size in sizes
}  # fmt: skip
PLOTS = {"growth.svg": "Rate against the number of videos and of likes; flush time against what changed"}


def measure(run: Run) -> Result:
    """Every size in every round: each has databases of its own, so that sizes take turns."""
    result = Result("growth", "Growth")
    _videos(run, result)
    _likes(run, result)
    _flush(run, result)
    for table, sizes in (("videos", VIDEOS), ("likes", LIKES)):
        few, many = f"{table}_{sizes[0]}", f"{table}_{_sizes(run, sizes)[-1]}"
        what = f"{LABELS.get(many, many)} {table} over {sizes[0]:,}"
        result.claim(f"rate, {what}", result.ratios(table, many, few), 0.9)
        seen = result.ratios(table, many, few, "p99")
        result.claim(f"p99, {what}", seen, 1.25, at_least=False)
    return result


def _sizes(run: Run, sizes: Sequence[int]) -> Sequence[int]:
    return sizes[:2] if run.quick else sizes


def _of_size(table: str, size: int, number: int) -> Ours:
    return replace(OURS, name=f"{table}_{size}", database=f"bench_{table}_{size}", redis_db=4 + number)


def _videos(run: Run, result: Result) -> None:
    servers = run.servers
    contenders = [_of_size("videos", size, i) for i, size in enumerate(_sizes(run, VIDEOS))]
    sizes = dict(zip([c.name for c in contenders], VIDEOS, strict=False))
    for contender in contenders:
        contender.migrate(servers)
        contender.fill(servers, users=10, videos=sizes[contender.name])
        gather(servers, contender, videos=sizes[contender.name])

    def one(contender: Contender, number: int) -> None:
        drawn = popular(run.size(PREPARED, 3_000), sizes[contender.name], seed=number)
        requests = [contender.view(video, f"r{number}n{i}") for i, video in enumerate(drawn)]
        path = write_requests(servers.folder / "growth", requests)
        with contender.serving(servers) as site:
            warm(site, servers.folder)
            _note(run, result, "videos", contender.name, number, wrk(site, path, seconds=run.size(SECONDS, 1)))

    run.alternate(result, contenders, one)
    for contender in contenders:
        _drop(servers, contender)


def _likes(run: Run, result: Result) -> None:
    servers = run.servers
    contenders = [_of_size("likes", size, i) for i, size in enumerate(_sizes(run, LIKES))]
    sizes = dict(zip([c.name for c in contenders], LIKES, strict=False))
    likers = run.size(LIKERS, 1_000)
    signed_in = tokens(likers)
    for contender in contenders:
        contender.migrate(servers)
        size = sizes[contender.name]
        contender.fill(servers, users=likers + size, videos=10)
        servers.sql(
            "INSERT INTO videos_videolike (video_id, user_id, created_at) "
            f"SELECT 1, seq, NOW() FROM seq_{likers + 1}_to_{likers + size}", database=contender.database,
        )  # fmt: skip
        servers.sql(f"UPDATE videos_video SET like_count = {size} WHERE id = 1")

    def one(contender: Contender, number: int) -> None:
        servers.redis_client(contender.redis_db).flushdb()  # so that each like asks the database for its state
        path = write_requests(servers.folder / "growth", [contender.like(1, token) for token in signed_in])
        with contender.serving(servers) as site:
            warm(site, servers.folder)
            _note(run, result, "likes", contender.name, number, wrk(site, path, seconds=run.size(SECONDS, 1)))

    run.alternate(result, contenders, one)
    for contender in contenders:
        _drop(servers, contender)


def _flush(run: Run, result: Result) -> None:
    servers = run.servers
    videos = run.size(1_000_000, 10_000)
    prepare(servers, [OURS])
    OURS.fill(servers, users=10, videos=videos)

    def one(changed: int, number: int) -> None:
        OURS.forget_counts(servers)
        gather(servers, videos=changed, views=changed)
        seconds = flush_ours(servers, "views", changed)
        result.add("flush", f"flush_{changed}", number, seconds=seconds, per_second=changed / seconds)
        run.say(f"  {number} flush of {changed}: {seconds:.3f} s")

    run.alternate(result, _sizes(run, CHANGED), one)


def _note(run: Run, result: Result, table: str, name: str, number: int, load: Load) -> None:
    if load.errors:
        raise StartFailed(f"{load.errors} requests of {name} failed.")
    result.add(table, name, number, **load.values())
    run.say(f"  {number} {name}: {load.rate:,.0f}/s, p99 {load.p99:.2f} ms")


def _drop(servers: Servers, contender: Contender) -> None:
    servers.redis_client(contender.redis_db).flushdb()
    servers.sql(f"DROP DATABASE {contender.database}")


def plot(result: Result, folder: Path) -> None:
    """Three charts side by side."""
    chart, axes = figure(3)
    for axis, table, sizes, label in (
        (axes[0], "videos", VIDEOS, "videos"), (axes[1], "likes", LIKES, "likes on one video"),
    ):  # fmt: skip
        shown = [size for size in sizes if result.series(table, f"{table}_{size}", "rate")]
        axis.plot(shown, [result.median(table, f"{table}_{size}", "rate") for size in shown], marker="o", color="C0")
        axis.set_xlabel(label)
        axis.set_ylabel("requests a second", color="C0")
        axis.set_ylim(0, 1.1 * axis.get_ylim()[1])  # room above the line
        late = axis.twinx()
        late.plot(shown, [result.median(table, f"{table}_{size}", "p99") for size in shown], marker="s", color="C1")
        late.set_ylabel("p99 ms", color="C1")
        late.set_ylim(0, 1.1 * late.get_ylim()[1])
        axis.set_xscale("log")
    shown = [changed for changed in CHANGED if result.series("flush", f"flush_{changed}", "seconds")]
    axes[2].loglog(shown, [result.median("flush", f"flush_{changed}", "seconds") for changed in shown], marker="o")
    axes[2].set_xlabel("changed, of 1,000,000 videos")
    axes[2].set_ylabel("seconds of the flush")
    save(chart, folder / "growth.svg")
