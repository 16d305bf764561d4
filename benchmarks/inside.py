"""`python -m benchmarks.inside LAYER`: what one request costs inside a worker, without a web server or a client.

Prints `{"wall": µs, "cpu": µs, "cpu_best": µs}` a call: the median by the clock; of the thread's CPU time the median
and the least over batches of calls. LAYER is a name in LAYERS. Redis answers for real, so that the clock holds its
fsync; the CPU time is this process' only.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import count
from typing import Any

CALLS = int(os.environ.get("CALLS", "3000"))
WARM_CALLS = 200
BATCH_CALLS = 50
VIDEOS = 1_000

# layer -> the WSGI callable ("" : no web at all), DJANGO_SETTINGS_MODULE, what is asked
LAYERS: dict[str, tuple[str, str, str]] = {
    "socket": ("", "", "view"),
    "client": ("", "", "view"),
    "bare": ("benchmarks.ceilings.bare", "", "view"),
    "django": ("benchmarks.ceilings.layers", "benchmarks.ceilings.layers_bare", "empty"),
    "middleware": ("benchmarks.ceilings.layers", "benchmarks.ceilings.layers_settings", "empty"),
    "our_middleware": ("benchmarks.ceilings.layers", "benchmarks.ceilings.layers_ours", "empty"),
    "plain": ("benchmarks.ceilings.plain", "benchmarks.ceilings.plain_settings", "view"),
    "drf_empty": ("benchmarks.ceilings.layers", "benchmarks.ceilings.layers_settings", "drf"),
    "drf": ("benchmarks.ceilings.layers", "benchmarks.ceilings.layers_settings", "view"),
    "ours": ("streaming.wsgi", "benchmarks.settings", "view"),
    "ours_whole": ("streaming.wsgi", "benchmarks.whole_settings", "view"),
    "bare_like": ("benchmarks.ceilings.bare", "", "like"),
    "plain_like": ("benchmarks.ceilings.plain", "benchmarks.ceilings.plain_settings", "like"),
    "ours_like": ("streaming.wsgi", "benchmarks.settings", "like"),
    "ours_whole_like": ("streaming.wsgi", "benchmarks.whole_settings", "like"),
    "ours_cold_like": ("streaming.wsgi", "benchmarks.settings", "like"),
    "token": ("", "benchmarks.settings", ""),
    "json": ("", "benchmarks.settings", ""),
    "recipe_like": ("benchmarks.recipe.wsgi", "benchmarks.recipe.settings", "like"),
}


def main() -> None:
    """Measure one layer."""
    layer = sys.argv[1]
    module, settings, asked = LAYERS[layer]
    if settings:
        os.environ["DJANGO_SETTINGS_MODULE"] = settings
    if module:
        call = _web(import_module(module).application, asked)
    elif asked:
        call = _client(layer)
    else:
        call = _part(layer)
    for _ in range(WARM_CALLS):
        next(call)()
    walls, cpus = [], []
    for _ in range(CALLS // BATCH_CALLS):
        batch = [next(call) for _ in range(BATCH_CALLS)]
        cpu_before = time.thread_time_ns()
        for one in batch:
            before = time.perf_counter_ns()
            one()
            walls.append(time.perf_counter_ns() - before)
        cpus.append((time.thread_time_ns() - cpu_before) / BATCH_CALLS)
    told = {"wall": statistics.median(walls), "cpu": statistics.median(cpus), "cpu_best": min(cpus)}
    print(json.dumps({name: nanoseconds / 1000 for name, nanoseconds in told.items()}))


def _client(layer: str) -> Iterator[Callable[[], Any]]:
    """The Redis call alone: by redis-py as it comes, or packed by hand on a socket with hiredis' parser."""
    from benchmarks.ceilings import calls

    number = 0
    if layer == "client":
        while True:
            number += 1
            video, viewer = number % VIDEOS + 1, f"inside{number}"
            yield lambda video=video, viewer=viewer: calls.view(video, viewer)  # type: ignore[misc]
    connection = calls.Socket()
    while True:
        number += 1
        video, viewer = number % VIDEOS + 1, f"inside{number}"
        yield lambda video=video, viewer=viewer: connection.view(video, viewer)  # type: ignore[misc]


def _part(layer: str) -> Iterator[Callable[[], Any]]:
    """A part of a request by itself: a token that was never seen before is checked, a body is read and one written."""
    import django

    django.setup()
    from videos import services
    from videos.api import answers, bodies, tokens

    sent = json.loads(os.environ["TOKENS"])
    view = services.View(1, True, "new", 1)
    parts: dict[str, Callable[[int], Any]] = {
        "token": lambda number: tokens.read(sent[number % len(sent)], kind=tokens.ACCESS, keys=tokens.signing_keys()),
        "json": lambda number: (
            bodies.parse_view(bodies.parse_json(b'{"viewer":"inside%d"}' % number)),
            answers.view_answer(view),
        ),
    }
    for number in count():
        yield lambda number=number: parts[layer](number)  # type: ignore[misc]


def _web(application: Any, asked: str) -> Iterator[Callable[[], Any]]:
    tokens = json.loads(os.environ.get("TOKENS", "[]"))
    number = 0
    while True:
        number += 1
        video = number % VIDEOS + 1
        environ: dict[str, Any] = {}
        body = b""
        method = "POST"
        if asked == "view":
            body = b'{"viewer":"inside%d"}' % number
        elif asked == "like":
            method = "PUT"
            environ["HTTP_AUTHORIZATION"] = f"Bearer {tokens[number % len(tokens)]}"
            video = (number + number // len(tokens)) % VIDEOS + 1
        what = asked if asked in {"view", "like"} else f"{asked}/view"
        environ |= {
            "REQUEST_METHOD": method, "PATH_INFO": f"/api/videos/{video}/{what}/", "SCRIPT_NAME": "",
            "QUERY_STRING": "", "CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(body)),
            "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "127.0.0.1",
            "HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            "REMOTE_ADDR": "127.0.0.1", "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.errors": sys.stderr,
            "wsgi.multithread": False, "wsgi.multiprocess": True, "wsgi.run_once": False,
            "wsgi.input": io.BytesIO(body),
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
