"""Open loop: likes that arrive at constant rates from 10 % to 120 % of capacity, latency against rate."""

from __future__ import annotations

from pathlib import Path

from benchmarks.arrivals import Likes, percentile
from benchmarks.contenders import OURS, RECIPE, Contender, Site, prepare
from benchmarks.load import warm
from benchmarks.plots import figure, save
from benchmarks.results import Column, Result, Run, Table

SHARES = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.2)
USERS = 20_000
VIDEOS = 1_000
SECONDS = 5
CAPACITY_SECONDS = 5
FLUSH_EVERY_SECONDS = 2
FIRST_GUESS = {"ours": 1_500.0, "recipe": 400.0}

_COLUMNS = (
    Column("rate", "asked likes/s"),
    Column("answered", "answered likes/s"),
    Column("p50", "p50 ms", "{:.1f}"),
    Column("p99", "p99 ms", "{:.1f}", spread=True),
    Column("dropped", "not sent"),
    Column("errors", "errors"),
)
LABELS = {
    f"{name}_{share:g}": f"{label} at {share:.0%} of its capacity"
    for name, label in (("ours", "this service"), ("recipe", "recipe"))
    for share in SHARES
}
TABLES = (Table("openloop", "open loop, k6 at a constant arrival rate", _COLUMNS),)
PLOTS = {"openloop.svg": "Latency against the rate at which likes arrive"}


def measure(run: Run) -> Result:
    """Each share of capacity in rounds, ours and the recipe in turn, each with its flush every 2 s."""
    result = Result("openloop", "Open loop")
    servers = run.servers
    prepare(servers, [OURS, RECIPE])
    seconds = run.size(SECONDS, 1)
    shares = (0.25, 1.0) if run.quick else SHARES
    likes = {c.name: Likes(c, users=USERS, videos=VIDEOS, number=run.size(250_000, 20_000)) for c in (OURS, RECIPE)}
    capacity = {c.name: _capacity(run, c, likes[c.name]) for c in (OURS, RECIPE)}
    for name, rate in capacity.items():
        run.say(f"  capacity of {name}: {rate:,.0f} likes/s")
        result.notes.append(
            f"Capacity of {LABELS[f'{name}_1'].split(' at ')[0]} with k6 beside it: {rate:,.0f} likes/s."
        )

    def one(contender: Contender, number: int) -> None:
        contender.fill(servers, users=USERS, videos=VIDEOS)
        likes[contender.name].again()
        with contender.serving(servers) as site, contender.flushing(servers, FLUSH_EVERY_SECONDS):
            warm(site, servers.folder)
            for share in shares:
                values = _at(run, site, likes[contender.name], capacity[contender.name] * share, seconds)
                result.add("openloop", f"{contender.name}_{share:g}", number, share=share, **values)
                run.say(f"  {number} {contender.name} at {share:.0%}: p99 {values['p99']:.1f} ms")

    run.alternate(result, [OURS, RECIPE], one, at_most=2)
    return result


def _capacity(run: Run, contender: Contender, likes: Likes) -> float:
    """What is answered a second when more is asked: twice as much each time, until it is more than can be answered."""
    contender.fill(run.servers, users=USERS, videos=VIDEOS)
    asked = FIRST_GUESS[contender.name]
    with contender.serving(run.servers) as site, contender.flushing(run.servers, FLUSH_EVERY_SECONDS):
        warm(site, run.servers.folder)
        best = 0.0
        for _ in range(4):
            likes.again()
            answered = _at(run, site, likes, asked, run.size(CAPACITY_SECONDS, 1))["answered"]
            contender.fill(run.servers, users=USERS, videos=VIDEOS)
            best = max(best, answered)
            if answered < 0.9 * asked:
                break
            asked *= 2
    return best


def _at(run: Run, site: Site, likes: Likes, rate: float, seconds: float) -> dict[str, float]:
    arrivals, dropped = likes.arrive(run.servers, site, rate=rate, seconds=seconds)
    good = [one for one in arrivals if one.good]
    begin = min(one.at_ms for one in arrivals)
    end = max(one.at_ms + one.took_ms for one in arrivals)
    return {
        "rate": rate, "answered": len(good) / (end - begin) * 1000, "p50": percentile(arrivals, 50),
        "p99": percentile(arrivals, 99), "dropped": float(dropped), "errors": float(len(arrivals) - len(good)),
    }  # fmt: skip


def plot(result: Result, folder: Path) -> None:
    """p50 and p99 against the rate, both contenders."""
    chart, axes = figure()
    for name, label, colour in (("ours", "this service", "C0"), ("recipe", "recipe", "C3")):
        rows = [f"{name}_{share:g}" for share in SHARES if result.series("openloop", f"{name}_{share:g}", "p99")]
        rates = [result.median("openloop", row, "rate") for row in rows]
        for key, style in (("p50", "--"), ("p99", "-")):
            values = [result.median("openloop", row, key) for row in rows]
            axes.plot(rates, values, style, color=colour, marker="o", markersize=3, label=f"{label}, {key}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("likes a second that arrive")
    axes.set_ylabel("ms until answered")
    axes.legend()
    save(chart, folder / "openloop.svg")
