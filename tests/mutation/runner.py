"""Runs the tests against mutants: one warm process, with servers up and all code read, is forked for each mutant.

It is a plugin of pytest that takes the place of its loop over the tests. In the child the mutated code replaces the
original; programs that a test starts read the mutated file. For a statement that runs at import a new pytest starts.
Only tests that run the statement are tried. One that then passes on the same mutant was disturbed by the machine; one
that takes far longer than usual has failed.

Over 250 lines: parent and child share the state of one session of pytest.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import coverage
import pytest

from tests.mutation.mutants import Mutant

ENVIRONMENT = dict(os.environ)  # before conftest.py adds to it
ORDERS = "test_no_order_of_steps_finds_a_fault"  # the random orders: a few are tried first, and many at last
ORDERS_FIRST, ORDERS_LAST = 24, 240
LEFT_OUT = ("test_a_broken_rule_is_found", "test_model.py", "test_soak.py", "test_mutants.py", "that_are_not_kept")
# A round runs tests that take less time than this, on the mutants that are left. Few orders are in the first one.
ROUNDS_SECONDS = (0.6, 30.0, 1000.0)


@dataclass
class Step:
    """A test, and what is known of it."""

    item: pytest.Item
    orders: int = 0
    seconds: float = 0.0
    lines: dict[str, list[int]] = field(default_factory=dict)  # that it runs, by file

    @property
    def name(self) -> str:
        """As the results show it."""
        return f"{self.item.nodeid} ({self.orders} orders)" if self.orders else self.item.nodeid

    @property
    def round(self) -> int:
        """In which round it runs, from 1 on."""
        if self.orders:
            return 1 if self.orders == ORDERS_FIRST else len(ROUNDS_SECONDS)
        return next(number for number, limit in enumerate(ROUNDS_SECONDS, 1) if self.seconds < limit)

    def runs(self, mutant: Mutant) -> bool:
        """Whether it runs the statement, or may: nobody knows which lines of scripts and of other processes run."""
        starts_processes = not self.lines or "manage" in getattr(self.item, "fixturenames", ())
        if starts_processes or not mutant.function or mutant.path.endswith(".lua"):
            return True
        return any(mutant.line <= line <= mutant.last_line for line in self.lines.get(mutant.path, ()))


class Runner:
    """Judges mutants: `judged(mutant, round, by)` gets the test that caught it, "" for none."""

    def __init__(
        self,
        mutants: Mapping[Mutant, int],  # with the number of rounds that each has survived
        judged: Callable[[Mutant, int, str], None],
        *,
        rounds: int,
        known: Path,  # where times and lines of the tests are kept
    ) -> None:
        self.root = Path.cwd()
        self.mutants = dict(mutants)
        self.judged = judged
        self.rounds = rounds
        self.known = known
        self.failed = False
        self.stuck = False  # Redis does not answer any more
        self.word = ""  # a child's last

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a failure."""
        self.failed = self.failed or report.failed

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Judge all mutants."""
        items = [item for item in session.items if not any(name in item.nodeid for name in LEFT_OUT)]
        self.items = items
        first = Step(min(items, key=lambda item: ORDERS not in item.nodeid), orders=4)
        self._run(first)  # sets up what lasts for the session: every child has it
        from django.db import connections

        connections.close_all()
        self.redis_pid = int(_redis().info("server")["process_id"])
        steps = self._measure(items)
        long = ORDERS_LAST / ORDERS_FIRST
        steps += [Step(step.item, ORDERS_LAST, step.seconds * long, step.lines) for step in steps if step.orders]
        steps.sort(key=lambda step: step.seconds)
        for number in range(1, self.rounds + 1):
            for mutant, survived in list(self.mutants.items()):
                if survived < number:
                    caught = self._judge(mutant, [step for step in steps if step.round == number and step.runs(mutant)])
                    self.judged(mutant, number, caught)
                    self.mutants[mutant] = self.rounds if caught else number
                    if self.stuck:
                        raise KeyboardInterrupt
        return True

    def _judge(self, mutant: Mutant, steps: Sequence[Step]) -> str:
        """The name of the test that catches the mutant; "" for none."""
        file = self.root / mutant.path
        original = file.read_bytes()
        file.write_bytes(mutant.source(self.root))
        judge = self._fork if mutant.function else self._start
        try:
            while steps:
                place, why = judge(mutant, steps)
                if not why:
                    break
                step = steps[place]
                if step.orders or self.stuck or judge(mutant, [step])[1]:
                    return f"{step.name}{why}"
                steps = steps[place + 1 :]
        finally:
            file.write_bytes(original)
        return ""

    def _run(self, step: Step, follows: pytest.Item | None = None) -> None:
        """Run a test. Its module's fixtures end unless the test that follows shares them, those of the session stay."""
        if step.orders:
            sys.modules[step.item.module.__name__].ORDERS = step.orders  # type: ignore[attr-defined]
        others = [item for item in self.items if item is not step.item]
        elsewhere = next((item for item in others if item.path != step.item.path), others[0])
        step.item.config.hook.pytest_runtest_protocol(item=step.item, nextitem=follows or elsewhere)

    def _fork(self, mutant: Mutant | None, steps: Sequence[Step], *, trace: bool = False) -> tuple[int, str]:
        """The number of the test that a child ended with, and why it counts as failed; "" if all passed."""
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            with os.fdopen(writer, "w", buffering=1) as out:
                try:
                    self._in_child(mutant, steps, out, trace=trace)
                except BaseException as error:  # noqa: BLE001  the parent says it
                    out.write(f"ended: {error!r}\n")
            os._exit(0)
        os.close(writer)
        try:
            with os.fdopen(reader, "rb", buffering=0) as said:
                return self._listen(said, steps)
        finally:
            for kill in (os.killpg, os.kill):
                with contextlib.suppress(ProcessLookupError):
                    kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            self._look_at_redis()

    def _listen(self, said: Any, steps: Sequence[Step]) -> tuple[int, str]:
        place, limit, self.word = 0, 20.0, ""
        while select.select([said], [], [], limit)[0]:
            self.word = said.readline().decode().strip()
            if not self.word.isdigit():
                return place, "" if self.word.startswith(("passed", "{")) else f" {self.word or 'ended'}"
            place = int(self.word)
            limit = 5 + 2 * steps[place].seconds if steps[place].seconds else 120.0
        return place, " hung"

    def _in_child(self, mutant: Mutant | None, steps: Sequence[Step], out: Any, *, trace: bool) -> None:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        _prepare_child(steps[0].item.config)
        if mutant is not None:
            _replace(self.root / mutant.path)
        for place, step in enumerate(steps):
            out.write(f"{place}\n")
            if trace:
                out.write(json.dumps(self._lines(step)) + "\n")
                return
            self._run(step, steps[place + 1].item if place + 1 < len(steps) else None)
            if self.failed:
                out.write("failed\n")
                return
        out.write("passed\n")

    def _lines(self, step: Step) -> dict[str, list[int]]:
        tracer = coverage.Coverage(data_file=None, config_file=False, include=["videos/*"])
        tracer._no_warn_slugs.add("no-data-collected")
        tracer.start()
        self._run(step)
        tracer.stop()
        data = tracer.get_data()
        return {os.path.relpath(path, self.root): data.lines(path) or [] for path in data.measured_files()}

    def _start(self, _: Mutant, steps: Sequence[Step]) -> tuple[int, str]:
        """As _fork, in a new process."""
        names = [step.item.nodeid for step in steps]
        options = ("-x", "-q", "--tb=no", "-p", "no:randomly", "-p", "no:cacheprovider")
        command = [sys.executable, "-m", "pytest", *options, "--on", steps[0].item.config.getoption("--on"), *names]
        environment = ENVIRONMENT | {"STREAMING_ORDERS": str(max(step.orders for step in steps))}
        limit = 40 + 4 * sum(step.seconds for step in steps)
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=limit, check=False)
        except subprocess.TimeoutExpired:
            return 0, " hung"
        told = done.stdout.partition("short test summary")[2]
        failed = [place for place, name in enumerate(names) if f" {name}" in told]
        return (failed or [0])[0], "" if done.returncode == 0 else " failed" if failed else " does not start"

    def _measure(self, items: Sequence[pytest.Item]) -> list[Step]:
        """How long each test takes and which lines it runs; kept while the code is the same."""
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(self.root.glob("videos/**/*.py"))))
        kept = json.loads(self.known.read_text()) if self.known.exists() else {}
        known = kept.get(digest.hexdigest(), {})
        steps = []
        for item in items:
            step = Step(item, ORDERS_FIRST if ORDERS in item.nodeid else 0)
            if step.name not in known:
                began = time.monotonic()
                failed = self._fork(None, [step])[1]
                seconds = time.monotonic() - began
                self._fork(None, [step], trace=True)
                if failed or not self.word.startswith("{"):
                    sys.stderr.write(f"{step.name} is left out: without a mutant it {failed or self.word}\n")
                    continue
                known[step.name] = seconds, json.loads(self.word)
                sys.stderr.write(f"{step.name}: {seconds:.1f} s\n")
                self.known.write_text(json.dumps({digest.hexdigest(): known}))
            step.seconds, step.lines = known[step.name]
            steps.append(step)
        return steps

    def _look_at_redis(self) -> None:
        """A script that never ends holds up the server for good: then the run begins again with another one."""
        try:
            _redis().ping()
        except Exception:  # noqa: BLE001  whatever it is
            self.stuck = True
            os.kill(self.redis_pid, signal.SIGKILL)


def _redis() -> Any:
    import redis

    return redis.Redis.from_url(os.environ["REDIS_URL"], protocol=2, socket_timeout=2)


def _prepare_child(config: pytest.Config) -> None:
    """Drop the parent's connections, empty the tables, and let hypothesis search no smaller examples."""
    from django.test import TransactionTestCase
    from hypothesis import Phase, settings
    from pytest_django.plugin import blocking_manager_key

    from videos.counters import connection

    connection._leases.request = connection._leases.flush = None
    settings.register_profile("mutants", settings.get_profile("tests"), phases=[Phase.generate], database=None)
    settings.load_profile("mutants")
    with config.stash[blocking_manager_key].unblock():
        TransactionTestCase._fixture_teardown(None)  # type: ignore[attr-defined]  # conftest's, which needs no test


def _replace(file: Path) -> None:
    """Put the code of a file in the place of what this process has read of it before."""
    if file.suffix == ".lua":
        from videos.counters import scripts

        for name, script in list(vars(scripts).items()):
            if isinstance(script, scripts.Script):
                scripts.Script.__init__(script, name.lower())
                scripts.TEXT_OF[script.sha] = script.text
        return
    codes = {code.co_qualname: code for code in _codes(compile(file.read_bytes(), str(file), "exec"))}
    for function in gc.get_objects():
        if isinstance(function, FunctionType) and function.__code__.co_filename == str(file):
            code = codes.get(function.__code__.co_qualname)
            if code is not None and code.co_freevars == function.__code__.co_freevars:
                function.__code__ = code


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)
