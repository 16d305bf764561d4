"""`python -m benchmarks.inside LAYER TOKENS`: what one request costs inside a worker, without a web server or a client.

Prints `{"wall": µs, "cpu": µs, "cpu_best": µs}` a call: the median by the clock; of the thread's CPU time the median
and the least over batches of calls. LAYER is a name in LAYERS, TOKENS a file with one token a line. Redis answers for
real, so that the clock holds its fsync; the CPU time is this process' only.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.traffic import USER_AGENT

WARM_CALLS = 200
BATCH_CALLS = 50
VIDEOS = 1_000


@dataclass(frozen=True)
class Layer:
    """One way to be asked: what is asked, whom, and with which settings."""

    label: str
    asked: str = "view"  # or like; or an address of alternatives/plain.py
    alternative: str = "ours"  # or a module in alternatives; or a client of Redis, without any web
    middleware: str | None = None  # of startproject's project; else as it comes
    settings: tuple[tuple[str, object], ...] = ()  # of the service's project
    known: bool = True  # Redis knows beforehand that the user does not like the video
    new_tokens: bool = False  # each call brings a token that was never sent before

    @property
    def counts(self) -> bool:
        """Whether it asks Redis."""
        return not self.asked.endswith("empty")

    def environment(self) -> dict[str, str]:
        """What the process needs beside the contender's own environment."""
        environment = {"BENCH_SETTINGS": json.dumps(dict(self.settings))}
        if self.alternative == "plain" and not self.settings:
            environment |= {"DJANGO_SETTINGS_MODULE": "benchmarks.alternatives.settings", "ALTERNATIVE": "plain"}
        if self.middleware is not None:
            environment["MIDDLEWARE"] = self.middleware
        return environment

    def application(self) -> Any:
        """The WSGI callable."""
        modules = {"ours": "streaming.wsgi", "bare": "benchmarks.alternatives.bare"}
        return import_module(modules.get(self.alternative, "benchmarks.alternatives.wsgi")).application


_WHOLE = (("VIDEOS_EXPRESS", False),)
_OUR_MIDDLEWARE = (("ROOT_URLCONF", "benchmarks.alternatives.plain"),)
LAYERS: dict[str, Layer] = {
    "socket": Layer("view script: hiredis on a socket", alternative="socket"),
    "client": Layer("view script: redis-py as it comes", alternative="client"),
    "bare": Layer("bare WSGI function, view", alternative="bare"),
    "django": Layer("Django's handler, no middleware, empty view", "empty", "plain", middleware=""),
    "middleware": Layer("… with startproject's middleware", "empty", "plain"),
    "our_middleware": Layer("… with this service's middleware", "empty", "plain", settings=_OUR_MIDDLEWARE),
    "plain": Layer("plain Django view, view", alternative="plain"),
    "drf_empty": Layer("Django REST framework as it comes, empty view", "drf_empty", "plain"),
    "drf": Layer("Django REST framework as it comes, view", "drf", "plain"),
    "ours": Layer("this service, view"),
    "ours_whole": Layer(
        "this service, view, through Django and REST framework (`VIDEOS_EXPRESS=False`)", settings=_WHOLE
    ),
    "bare_like": Layer("bare WSGI function, like (PyJWT)", "like", "bare"),
    "plain_like": Layer("plain Django view, like (PyJWT)", "like", "plain"),
    "ours_like": Layer("this service, like", "like"),
    "ours_whole_like": Layer("this service, like, through Django and REST framework", "like", settings=_WHOLE),
    "ours_new_token": Layer("this service, like with a token that it sees for the first time", "like", new_tokens=True),
    "ours_cold_like": Layer("this service, like whose state Redis does not know", "like", known=False),
    "recipe_like": Layer("recipe, like", "like", "recipe"),
}


def main() -> None:
    """Measure one layer."""
    layer, tokens = LAYERS[sys.argv[1]], Path(sys.argv[2]).read_text().split()
    web = layer.alternative not in {"socket", "client"}
    call = _web(layer.application(), layer, tokens) if web else _client(layer.alternative)
    for _ in range(WARM_CALLS):
        next(call)()
    walls, cpus = [], []
    for _ in range(int(os.environ["CALLS"]) // BATCH_CALLS):
        batch = [next(call) for _ in range(BATCH_CALLS)]
        cpu_before = time.thread_time_ns()
        for one in batch:
            before = time.perf_counter_ns()
            one()
            walls.append(time.perf_counter_ns() - before)
        cpus.append((time.thread_time_ns() - cpu_before) / BATCH_CALLS)
    told = {"wall": statistics.median(walls), "cpu": statistics.median(cpus), "cpu_best": min(cpus)}
    print(json.dumps({name: nanoseconds / 1000 for name, nanoseconds in told.items()}))


def _client(kind: str) -> Iterator[Callable[[], Any]]:
    """The Redis call alone: by redis-py as it comes, or packed by hand on a socket with hiredis' parser."""
    from benchmarks.wire import Scripts, Socket

    scripts = Scripts.of_environment()
    view: Callable[[int, str], Any] = scripts.view if kind == "client" else Socket(scripts).view
    for number in count(1):
        yield lambda number=number: view(number % VIDEOS + 1, f"inside{number}")  # type: ignore[misc]


def _web(application: Any, layer: Layer, tokens: list[str]) -> Iterator[Callable[[], Any]]:
    for number in count(1):
        video = number % VIDEOS + 1
        environ: dict[str, Any] = {}
        method, body = "POST", b""
        what = layer.asked if layer.asked in {"view", "like"} else f"{layer.asked}/view"
        if layer.asked == "like":
            method = "PUT"
            environ["HTTP_AUTHORIZATION"] = f"Bearer {tokens[number % len(tokens)]}"
            video = (number + number // len(tokens)) % VIDEOS + 1
        elif layer.counts:
            body = b'{"viewer":"inside%d"}' % number
        environ |= {
            "REQUEST_METHOD": method, "PATH_INFO": f"/api/videos/{video}/{what}/", "SCRIPT_NAME": "",
            "QUERY_STRING": "", "CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(body)),
            "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "127.0.0.1",
            "HTTP_USER_AGENT": USER_AGENT, "REMOTE_ADDR": "127.0.0.1", "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http", "wsgi.errors": sys.stderr, "wsgi.multithread": False,
            "wsgi.multiprocess": True, "wsgi.run_once": False, "wsgi.input": io.BytesIO(body),
        }  # fmt: skip
        yield lambda environ=environ: _answer(application, environ)  # type: ignore[misc]


def _answer(application: Any, environ: dict[str, Any]) -> None:
    said: list[str] = []
    response = application(environ, lambda status, headers, exc_info=None: said.append(status))
    b"".join(response)
    if hasattr(response, "close"):
        response.close()
    if said[0][:3] != "200":
        raise SystemExit(f"{environ['PATH_INFO']}: {said[0]}")


if __name__ == "__main__":
    main()
