"""The command: granian's processes, each with a Door."""

from __future__ import annotations

import argparse
import resource
import threading
from collections.abc import Callable
from typing import Any, Final

import granian._granian
from granian._signals import set_sync_signals
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.common import WORKERS_METHODS
from granian.server.mp import MPServer, WorkerProcess

from streaming import serve
from streaming.serve.door import Door

APPLICATION: Final = "streaming.wsgi:application"
HEADERS_MS: Final = 15_000  # in which headers must arrive; also how long a connection may be idle
HEADER_BYTES: Final = 65_536
CONNECTIONS: Final = 8192  # of a worker
BACKLOG: Final = 4096
FILES: Final = 65_536  # each connection is one
IDLE_SECONDS: Final = 600  # until a thread ends, and its connections to Redis and the database with it
MAX_RSS_MIB: Final = 768  # of a worker, which is then replaced
KILL_SECONDS: Final = 10  # a worker that has not started yet misses the request to stop

_rust: Any = granian._granian  # its types are not those of this version


class _NoLoop:
    """What granian takes for an event loop: it runs callbacks at once, in the thread that has the result."""

    def call_soon(self, callback: Callable[..., object], *arguments: Any, context: Any = None) -> None:
        callback(*arguments)

    call_soon_threadsafe = call_soon


class Server(MPServer):
    """granian's server of processes, each of which runs a Door."""

    @staticmethod
    @WorkerProcess.wrap_target  # type: ignore[untyped-decorator]
    def _spawn_wsgi_worker(  # noqa: PLR0917  as granian calls it
        worker_id: int, callback: Any, sock: Any, ipc: Any, loop: Any, runtime_mode: Any, runtime_threads: int,
        runtime_blocking_threads: int, blocking_threads: int, idle_timeout: int, backpressure: int, task_impl: Any,
        http_mode: Any, http1: Any, http2: Any, websockets: bool, static: Any, log_format: Any, tls: Any,
        scope_opts: Any, metrics: Any,
    ) -> None:  # fmt: skip
        stop, stopped = set_sync_signals(), threading.Event()  # type: ignore[no-untyped-call]
        stop.add_cb(stopped.set)
        worker = _rust.RSGIWorker(
            worker_id, sock, ipc, runtime_threads, runtime_blocking_threads, blocking_threads + 1, idle_timeout,
            backpressure, http_mode, http1, http2, websockets, static, *tls, metrics,
        )  # fmt: skip
        loop = _NoLoop()
        scheduler = _rust.CallbackScheduler(loop, None, None, None, None)
        scheduler._schedule_fn = Door(callback, blocking_threads).begin
        run = getattr(worker, WORKERS_METHODS[runtime_mode][(sock[0] or sock[1]).is_uds()])
        run(scheduler, loop, stop)
        stopped.wait()


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser("python -m streaming.serve", description=(serve.__doc__ or "").partition("\n")[0])
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="(%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes; one a core (%(default)s)")
    parser.add_argument("--threads", type=int, default=4, help="of a worker, which run requests (%(default)s)")
    parser.add_argument("--max-rss", type=int, default=MAX_RSS_MIB, metavar="MIB", help="of a worker (%(default)s)")
    parser.add_argument("--log-level", default="info", choices=[level.value for level in LogLevels])
    parser.add_argument("--application", default=APPLICATION, help="a WSGI callable (%(default)s)")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, FILES), most))
    Server(
        options.application, options.host, options.port, interface=Interfaces.WSGI, workers=options.workers,
        blocking_threads=options.threads, blocking_threads_idle_timeout=IDLE_SECONDS,
        http=HTTPModes.http1, websockets=False, backlog=BACKLOG,
        backpressure=CONNECTIONS, log_level=LogLevels(options.log_level), respawn_failed_workers=True,
        workers_max_rss=options.max_rss, workers_kill_timeout=KILL_SECONDS,
        http1_settings=HTTP1Settings(header_read_timeout=HEADERS_MS, max_buffer_size=HEADER_BYTES),
    ).serve()  # fmt: skip


if __name__ == "__main__":
    main()
