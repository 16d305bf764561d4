"""Latency: likes that arrive at constant rates (open loop), and what each layer of a request takes inside a worker."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contender import Contender, Site
from benchmarks.contenders import OURS, RECIPE, prepare
from benchmarks.inside import LAYERS
from benchmarks.load import k6, warm
from benchmarks.results import Column, Result, Run, Table
from benchmarks.traffic import distinct_pairs, tokens, write_lines
from servers import PYTHON, Servers, call

SHARES = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.2)
USERS = 20_000
VIDEOS = 1_000
SECONDS = 5
FLUSH_EVERY_SECONDS = 2
FIRST_GUESS = {"ours": 1_500.0, "recipe": 400.0}
CALLS = 3_000
LAYER_USERS = 300  # so few that the service remembers all of their tokens

TABLES = (
    Table(
        "openloop",
        "open loop, k6 at a constant arrival rate",
        (
            Column("rate", "asked likes/s"),
            Column("answered", "answered likes/s"),
            Column("p50", "p50 ms", "{:.1f}"),
            Column("p99", "p99 ms", "{:.1f}", spread=True),
            Column("dropped", "not sent"),
            Column("errors", "errors"),
        ),
    ),
    Table(
        "layers",
        "inside one worker",
        (
            Column("cpu", "CPU µs a request", "{:.0f}", spread=True),
            Column("cpu_best", "best batch", "{:.0f}"),
            Column("wall", "clock µs (median)", "{:.0f}", spread=True),
        ),
    ),
)
LABELS = {
    f"{name}_{share:g}": f"{label} at {share:.0%} of its capacity"
    for name, label in (("ours", "this service"), ("recipe", "recipe"))
    for share in SHARES
} | {name: layer.label for name, layer in LAYERS.items()}
PLOTS = (("openloop", "openloop.svg", "Latency against the rate at which likes arrive"),)


def measure(run: Run) -> Result:
    """The open loop, then the layers."""
    result = Result("latency")
    prepare(run.servers, [OURS, RECIPE])
    _open_loop(run, result)
    _layers(run, result)
    return result


class Likes:
    """Likes prepared for one contender: each line another (user, video), used once."""

    def __init__(self, run: Run, contender: Contender) -> None:
        self._users = run.size(USERS, 2_000)
        signed_in = tokens(self._users)
        pairs = distinct_pairs(self._users, VIDEOS, run.size(250_000, 5_000), seed=5)
        requests = (contender.like(video, signed_in[user - 1]) for user, video in pairs)
        self._lines = [f"{request.method} {request.path} {request.token}" for request in requests]
        self._contender, self._servers = contender, run.servers
        self._used = 0
        self.arrivals: list[tuple[float, ...]] = []  # of the last run: Unix ms when sent, ms until answered, status
        self.dropped = 0.0

    def again(self) -> None:
        """Begin anew, with the contender's data made anew."""
        self._contender.fill(self._servers, users=self._users, videos=VIDEOS)
        self._used = 0

    def arrive(self, site: Site, *, rate: float, seconds: int) -> dict[str, float]:
        """Send so many a second, whether or not the ones before are answered; what came of it."""
        number = int(rate * seconds) + 1
        lines = self._lines[self._used : self._used + number]
        if len(lines) < number:
            raise ValueError(f"{number} likes asked for, {len(lines)} left.")
        self._used += number
        folder = self._servers.folder
        environment = {
            "LIKES": str(write_lines(folder / "likes", lines)), "BASE": site.url, "RATE": str(max(1, round(rate))),
            "SECONDS": str(seconds),
        }  # fmt: skip
        metrics, console = k6("arrivals.js", folder, environment)
        arrivals = self.arrivals = [tuple(map(float, line.split())) for line in console]
        self.dropped = float(metrics.get("dropped_iterations", {}).get("count", 0.0))
        good = sum(status == 200 for _, _, status in arrivals)
        took = max(at + ms for at, ms, _ in arrivals) - min(at for at, _, _ in arrivals)
        percentiles = statistics.quantiles((ms for _, ms, _ in arrivals), n=100)
        return {
            "rate": rate, "answered": good / took * 1000, "p50": percentiles[49], "p99": percentiles[98],
            "dropped": self.dropped, "errors": float(len(arrivals) - good),
        }  # fmt: skip


def _open_loop(run: Run, result: Result) -> None:
    """Each share of capacity in rounds, ours and the recipe in turn, each with its flush every 2 s."""
    servers, seconds = run.servers, run.size(SECONDS, 1)
    likes = {contender.name: Likes(run, contender) for contender in (OURS, RECIPE)}
    capacity = {contender.name: _capacity(run, contender, likes[contender.name]) for contender in (OURS, RECIPE)}
    for name, rate in capacity.items():
        text = f"Capacity of {LABELS[f'{name}_1'].split(' at ')[0]} with k6 beside it: {rate:,.0f} likes/s."
        run.say(f"  {text}")
        result.notes.append(("openloop", text))

    def one(contender: Contender, number: int) -> None:
        likes[contender.name].again()
        with contender.serving(servers) as site, contender.flushing(servers, FLUSH_EVERY_SECONDS):
            warm(site, servers.folder)
            for share in (0.25, 1.0) if run.quick else SHARES:
                values = likes[contender.name].arrive(site, rate=capacity[contender.name] * share, seconds=seconds)
                result.add("openloop", f"{contender.name}_{share:g}", share=share, **values)
                run.say(f"  {number} {contender.name} at {share:.0%}: p99 {values['p99']:.1f} ms")

    run.alternate(result, [OURS, RECIPE], one, at_most=2)


def _capacity(run: Run, contender: Contender, likes: Likes) -> float:
    """What is answered a second when more is asked: twice as much each time, until it is more than can be answered."""
    asked = FIRST_GUESS[contender.name]
    with contender.serving(run.servers) as site, contender.flushing(run.servers, FLUSH_EVERY_SECONDS):
        warm(site, run.servers.folder)
        best = 0.0
        for _ in range(run.size(4, 1)):
            likes.again()
            answered = likes.arrive(site, rate=asked, seconds=run.size(SECONDS, 1))["answered"]
            best = max(best, answered)
            if answered < 0.9 * asked:
                break
            asked *= 2
    return best


def _layers(run: Run, result: Result) -> None:
    """Every layer in every round."""
    servers, number_of_calls = run.servers, run.size(CALLS, 100)
    files = {
        number: write_lines(servers.folder / f"tokens-{number}", tokens(number))
        for number in (LAYER_USERS, number_of_calls + 201)
    }

    def one(name: str, number: int) -> None:
        layer = LAYERS[name]
        contender = RECIPE if layer.alternative == "recipe" else OURS
        users = number_of_calls + 201 if layer.new_tokens else LAYER_USERS
        if layer.counts:
            contender.fill(servers, users=users, videos=VIDEOS)
        if layer.counts and contender is OURS:
            pairs = [(n % users + 1, (n + n // users) % VIDEOS + 1) for n in range(1, number_of_calls + 201)]
            OURS.scripts(servers).gather(videos=VIDEOS, unliked=pairs if layer.known else [])
        told = inside(servers, name, number_of_calls, files[users])
        result.add("layers", name, **told)
        run.say(f"  {number} {name}: CPU {told['cpu']:.0f} µs, clock {told['wall']:.0f} µs")

    run.alternate(result, list(LAYERS), one, at_most=2)
    cpu = {name: result.median("layers", name, "cpu") for name in LAYERS}
    text = (
        f"CPU of a view: Redis call {cpu['client']:.0f} µs, Django's handler {cpu['django']:.0f}, startproject's "
        f"middleware {cpu['middleware'] - cpu['django']:.0f}, Django REST framework as it comes "
        f"{cpu['drf_empty'] - cpu['middleware']:.0f}; all of this service {cpu['ours']:.0f}, and "
        f"{cpu['ours_whole']:.0f} with the express lane closed."
    )
    result.notes.append(("layers", text))


def inside_command(servers: Servers, name: str, calls: int, tokens_file: Path) -> tuple[Sequence[str], dict[str, str]]:
    """The process that makes so many calls of a layer, and its environment."""
    layer = LAYERS[name]
    contender = RECIPE if layer.alternative == "recipe" else OURS
    environment = {**contender.environment(servers), **layer.environment(), "CALLS": str(calls)}
    return [str(PYTHON), "-m", "benchmarks.inside", name, str(tokens_file)], environment


def inside(servers: Servers, name: str, calls: int, tokens_file: Path) -> dict[str, float]:
    """µs of a call, as `benchmarks.inside` says."""
    told: dict[str, float] = json.loads(call(*inside_command(servers, name, calls, tokens_file)).stdout)
    return told
