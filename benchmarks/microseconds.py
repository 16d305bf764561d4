"""Where each microsecond of a request goes: layer upon layer, inside one process."""

from __future__ import annotations

import json
import statistics

from benchmarks.contenders import OURS, RECIPE, prepare
from benchmarks.flush import gather
from benchmarks.inside import LAYERS
from benchmarks.results import Column, Result, Run, Table
from benchmarks.traffic import tokens
from servers import PYTHON, call

CALLS = 3_000
USERS = 300  # so few that the list of tokens fits into an environment variable; remembered by the service

TABLES = (
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
    "socket": "view script: hiredis on a socket",
    "client": "view script: redis-py as it comes",
    "bare": "bare WSGI function, view",
    "django": "Django's handler, no middleware, empty view",
    "middleware": "… with startproject's middleware",
    "our_middleware": "… with this service's middleware",
    "plain": "plain Django view, view",
    "drf_empty": "Django REST framework as it comes, empty view",
    "drf": "Django REST framework as it comes, view",
    "ours": "this service, view",
    "ours_whole": "this service, view, through Django and REST framework (`VIDEOS_EXPRESS=False`)",
    "bare_like": "bare WSGI function, like (PyJWT)",
    "plain_like": "plain Django view, like (PyJWT)",
    "ours_like": "this service, like",
    "ours_whole_like": "this service, like, through Django and REST framework",
    "token": "of it: a token checked by PyJWT, for the first time",
    "json": "of a view: its body read, the answer written",
    "ours_cold_like": "this service, like whose state Redis does not know",
    "recipe_like": "recipe, like",
}


def measure(run: Run) -> Result:
    """Every layer in every round."""
    result = Result("microseconds", "Where each microsecond goes")
    servers = run.servers
    prepare(servers, [OURS, RECIPE])
    pairs = [
        (user, (number + number // USERS) % 1_000 + 1)
        for number in range(1, run.size(CALLS, 100) + 201)
        for user in [number % USERS + 1]
    ]
    signed_in = json.dumps(tokens(USERS))

    def one(layer: str, number: int) -> None:
        contender = RECIPE if layer == "recipe_like" else OURS
        if LAYERS[layer][2] in {"view", "like"}:  # the others ask nobody
            contender.fill(servers, users=USERS, videos=1_000)
            known = layer.endswith("_like") and layer != "ours_cold_like"
            if contender is OURS:
                gather(servers, videos=1_000, pairs=pairs if known else [])
        environment = {
            **contender.environment(servers), "CALLS": str(run.size(CALLS, 100)), "TOKENS": signed_in
        }  # fmt: skip
        told = json.loads(call([PYTHON, "-m", "benchmarks.inside", layer], environment).stdout)
        result.add("layers", layer, number, **told)
        run.say(
            f"  {number} {layer}: CPU {told['cpu']:.0f} µs (best {told['cpu_best']:.0f}), clock {told['wall']:.0f} µs"
        )

    run.alternate(result, list(LAYERS), one, at_most=2)
    median = {layer: statistics.median(result.series("layers", layer, "cpu")) for layer in LAYERS}
    result.notes.append(
        f"CPU of a view: Redis call {median['client']:.0f} µs, Django's handler {median['django']:.0f}, startproject's "
        f"middleware {median['middleware'] - median['django']:.0f}, Django REST framework as it comes "
        f"{median['drf_empty'] - median['middleware']:.0f}; all of this service {median['ours']:.0f}, and "
        f"{median['ours_whole']:.0f} with the express lane closed."
    )
    return result
