"""AWS Lambda on this machine: its Runtime API, and a process that runs an unpacked zip as Lambda would.

The process is AWS's own runtime client, `awslambdaric`, under this Python without its packages; beside the zip it sees
what the runtime brings (boto3), and only the environment that Lambda gives. Between two events it is frozen (SIGSTOP),
at its deadline it is killed (SIGKILL). https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import contextlib
import json
import queue
import re
import signal
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any

from servers import Process
from tests.support.packages import bare_python

REGION, ACCOUNT = "eu-central-1", "123456789012"
INIT_SECONDS = 60.0  # Lambda allows 10; a busy test machine is slower
# A process of servers/process.py ends with the thread that started it; tests invoke from threads that end early.
_SPAWNER = ThreadPoolExecutor(1)
# What AWS' Python runtimes bring, next to the runtime client itself.
IMAGE = [
    *("awslambdaric", "simplejson", "snapshot-restore-py"),
    *("boto3", "botocore", "s3transfer", "jmespath", "python-dateutil", "six", "urllib3"),
]


@dataclass(frozen=True)
class Invocation:
    """The outcome of one event."""

    payload: Any  # what the function returned
    error: dict[str, Any] | None  # errorType, errorMessage, stackTrace of what it raised
    timed_out: bool
    cold: bool
    init_seconds: float  # from the start of the process until it asked for its first event; 0 when it was warm
    seconds: float  # from the event to the answer
    peak_mb: float  # the process' largest resident size so far
    log: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The structured lines among what it logged."""
        # The runtime client's own messages end without a newline: on AWS they take another way.
        return [json.loads(line) for line in re.findall(r'\{"event": .*', self.log)]


def make_image(folder: Path) -> Path:
    """A folder with what Lambda's runtime brings, linked from this environment."""
    for name in IMAGE:
        distribution = metadata.distribution(name)
        tops = {file.parts[0] for file in distribution.files or [] if ".." not in file.parts}
        for top in tops - {"__pycache__", "bin"}:
            link = folder / top
            if not link.exists():
                link.symlink_to(Path(str(distribution.locate_file(top))))
    return folder


class _Api(ThreadingHTTPServer):
    """The Runtime API that one process talks to."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked = threading.Event()  # the process waits for an event
        self.answered: queue.Queue[tuple[str, dict[str, Any] | None]] = queue.Queue()
        self.events: queue.Queue[tuple[str, float, bytes] | None] = queue.Queue()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: _Api
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.set()
        event = self.server.events.get()
        if event is None:  # the process is gone
            self.close_connection = True
            return
        request, deadline, body = event
        self.send_response(200)
        self.send_header("Lambda-Runtime-Aws-Request-Id", request)
        self.send_header("Lambda-Runtime-Deadline-Ms", str(int(deadline * 1000)))
        arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:streaming-production"
        self.send_header("Lambda-Runtime-Invoked-Function-Arn", arn)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.clear()
        self.server.answered.put((self.path.rsplit("/", 1)[1], json.loads(body) if body else None))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class LambdaFunction:
    """One execution environment of the function: a process that is started when an event finds none."""

    def __init__(
        self, task: Path, image: Path, folder: Path, *, environment: Mapping[str, str], timeout_seconds: float = 300
    ) -> None:
        self.task = task
        self.image = image
        self.log = folder / f"lambda-{uuid.uuid4().hex[:8]}.log"
        self.environment = dict(environment)
        self.timeout_seconds = timeout_seconds
        self._api: _Api | None = None
        self._process: Process | None = None
        self._init_seconds = 0.0

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return self._process.pid if self._process is not None else None

    def invoke(self, event: Mapping[str, Any], *, timeout_seconds: float | None = None) -> Invocation:
        """Hand over one event and wait for the answer, at most until the deadline."""
        cold = self._process is None
        written = len(self.log.read_bytes()) if self.log.exists() else 0
        api = self._start() if cold else self._api
        process = self._process
        assert api is not None
        assert process is not None
        limit = self.timeout_seconds if timeout_seconds is None else timeout_seconds
        process.send(signal.SIGCONT)
        begin = time.monotonic()
        api.events.put((str(uuid.uuid4()), time.time() + limit, json.dumps(event).encode()))
        kind, answer = self._answer(api, process, begin + limit)
        seconds, peak = time.monotonic() - begin, _peak_mb(process.pid)
        if kind == "timed out":
            self.close()
        else:
            api.asked.wait(10)
            process.send(signal.SIGSTOP)
        return Invocation(
            payload=answer if kind == "response" else None,
            error=answer if kind == "error" else None,
            timed_out=kind == "timed out",
            cold=cold,
            init_seconds=self._init_seconds if cold else 0.0,
            seconds=seconds,
            peak_mb=peak,
            log=self.log.read_bytes()[written:].decode(errors="replace"),
        )

    def _answer(self, api: _Api, process: Process, limit: float) -> tuple[str, dict[str, Any] | None]:
        while time.monotonic() < limit:
            with contextlib.suppress(queue.Empty):
                return api.answered.get(timeout=max(0.001, min(0.5, limit - time.monotonic())))
            if not process.running:
                raise RuntimeError(f"The function's process ended:\n{self.log.read_text(errors='replace')[-3000:]}")
        return "timed out", None

    def _start(self) -> _Api:
        api = self._api = _Api()
        threading.Thread(target=api.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        command = ["env", "-C", str(self.task), bare_python(), "-S", "-m", "awslambdaric", "handler.lambda_handler"]
        begin = time.monotonic()
        self._process = _SPAWNER.submit(Process, command, log=self.log, env=self._lambda_environment(api)).result()
        while not api.asked.wait(0.05):
            if not self._process.running or time.monotonic() - begin > INIT_SECONDS:
                text = self.log.read_text(errors="replace")
                self.close()
                raise RuntimeError(f"The function's process did not ask for an event:\n{text[-3000:]}")
        self._init_seconds = time.monotonic() - begin
        return api

    def _lambda_environment(self, api: _Api) -> dict[str, str]:
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "HOME": "/nowhere",
            "PYTHONPATH": str(self.image),
            "PYTHONDONTWRITEBYTECODE": "1",  # Lambda's task folder is read-only
            "LAMBDA_TASK_ROOT": str(self.task),
            "_HANDLER": "handler.lambda_handler",
            "AWS_LAMBDA_RUNTIME_API": api.address,
            "AWS_LAMBDA_FUNCTION_NAME": "streaming-production",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "ASIAEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "example",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}",
            **self.environment,
        }

    def close(self) -> None:
        """End the process; the next event finds none."""
        if self._process is not None:
            self._process.kill()
            self._process = None
        if self._api is not None:
            self._api.events.put(None)
            self._api.shutdown()
            self._api.server_close()
            self._api = None


def _peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def scheduled_event(**kwargs: Any) -> dict[str, Any]:
    """An event as EventBridge makes it from the rule and the target that Zappa leaves behind."""
    rule = "streaming-production-flush-streaming.schedule.flush"
    return {
        "time": "2026-01-01T00:00:00Z",
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": ACCOUNT,
        "region": REGION,
        "detail": {},
        "version": "0",
        "resources": [f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{rule}"],
        "id": str(uuid.uuid4()),
        "kwargs": kwargs,
    }
