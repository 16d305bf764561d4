"""What script/test does: an environment, the static checks, the layers of the suite on each pair, one summary."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET  # nosec B405

from audit import audit
from debian import install_packages
from environment import SetupError, ensure_environment

from servers.process import end_with_parent

ROOT = Path(__file__).resolve().parent.parent
PAIRS = {"sqlite": "SQLite and Valkey", "mariadb": "MariaDB and Redis", "mysql": "MySQL and Redis"}
MYSQL_TOOL = "MYSQL_SERVER_TOOL"  # names a program that starts MySQL; without it there is none
CODE = ("streaming", "videos", "servers", "deploy", "script", "manage.py")  # that runs in production, or starts it
LAYERS = ("unit", "rooms", "http", "protocol", "deploy")
COVERED = ("--cov", "--cov-report=")
COVERAGE_FLOOR = 90  # per cent of lines and branches
NO_TESTS = 5  # pytest's exit code
LANES = 2  # suites at a time: one for each core; limits of time fail where more share them


@dataclass
class Step:
    """A check, its outcome, and its note in the summary."""

    name: str
    ok: bool = True
    note: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Suite:
    """A run of pytest on one pair, over some layers or with the caller's arguments."""

    pair: str
    layers: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name in the summary."""
        return f"{', '.join(self.layers) or 'tests'} on {PAIRS[self.pair]}"

    def report(self, folder: Path) -> Path:
        """Where pytest writes the outcome of each test."""
        return folder / f"{self.name}.xml"


@dataclass
class Results:
    """The sums of all runs of pytest, and the steps of the summary."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    steps: list[Step] = field(default_factory=list)
    seconds: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))  # by layer and pair

    def add(self, suite: Suite, report: Path) -> str:
        """Add pytest's own report (JUnit XML) and return it in words."""
        try:
            run = ET.parse(report).getroot()[0]  # noqa: S314  pytest wrote it a moment ago  # nosec B314
        except (FileNotFoundError, ET.ParseError, IndexError):
            return "no report"
        for test in run.iter("testcase"):
            self.seconds[test.attrib["classname"].split(".")[1], suite.pair] += float(test.attrib["time"])
        failed = int(run.attrib["failures"]) + int(run.attrib["errors"])
        skipped = int(run.attrib["skipped"])
        passed = int(run.attrib["tests"]) - failed - skipped
        self.passed, self.failed, self.skipped = self.passed + passed, self.failed + failed, self.skipped + skipped
        return f"{passed} passed, {failed} failed, {skipped} skipped"


def main(arguments: Sequence[str]) -> int:
    """Run everything and print one summary; the exit code is 0 when all of it passed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    begun = time.monotonic()
    try:
        results = check(arguments)
    except SetupError as error:
        print(f"script/test: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    return summarise(results, time.monotonic() - begun)


def check(arguments: Sequence[str]) -> Results:
    """Install what is needed, then run the static checks and the suite; with arguments for pytest, the suite alone."""
    install_packages()
    python = ensure_test_environment()
    suites = chosen_suites(arguments)
    results = Results()
    with tempfile.TemporaryDirectory(prefix="streaming-checks-") as folder:
        run_all(python, suites, Path(folder), results)
        if any(suite.arguments[:2] == COVERED for suite in suites):
            results.steps.append(measure_coverage(python, Path(folder)))
    return results


def ensure_test_environment() -> Path:
    """The Python of the environment that script/test and script/soak share."""
    return ensure_environment(ROOT / ".venv-test", [ROOT / "requirements.txt", ROOT / "requirements" / "dev.txt"])


def chosen_suites(arguments: Sequence[str]) -> list[Suite]:
    """The runs of pytest, the longest first, so that the last ones end at about the same time."""
    if list(arguments) == ["--quick"]:
        return [Suite("sqlite", ("http",)), Suite("sqlite", ("unit", "rooms"))]
    chosen = tuple(arguments)
    on_mysql = ("-m", "database", *chosen)  # the rest is the same as on MariaDB
    if chosen:
        suites = [Suite("sqlite", (), chosen), Suite("mariadb", (), chosen), Suite("mysql", (), on_mysql)]
    else:
        # Each run makes a database and starts servers; the first on MySQL fetches it. So there are few.
        # Tracing adds half to the time of a test, and these layers on one pair pass through 95 % of the code.
        suites = [
            Suite("mariadb", ("protocol",)),
            Suite("mysql", ("protocol", "deploy"), on_mysql),
            Suite("sqlite", ("protocol",)),
            Suite("sqlite", ("deploy",)),
            Suite("mariadb", ("deploy", "rooms", "http")),
            Suite("sqlite", ("unit", "rooms", "http"), COVERED),
            Suite("mysql", ("rooms", "http"), on_mysql),
        ]
    return [suite for suite in suites if suite.pair != "mysql" or os.environ.get(MYSQL_TOOL)]


def run_all(python: Path, suites: Sequence[Suite], folder: Path, results: Results) -> None:
    """Run the suites, some at a time, with the static checks before them unless the caller chose tests."""
    interactive = any({"--pdb", "--trace", "-s"} & set(suite.arguments) for suite in suites)
    running: list[subprocess.Popen[str]] = []
    with ThreadPoolExecutor(1 if interactive else LANES) as pool:
        static = [pool.submit(check_statically, python)] if all(suite.layers for suite in suites) else []
        runs = [pool.submit(run_suite, python, suite, folder, running, interactive=interactive) for suite in suites]
        try:
            results.steps += [step for checks in static for step in checks.result()]
            for suite, run in zip(suites, runs, strict=True):
                step = run.result()
                step.note = results.add(suite, suite.report(folder))
                results.steps.append(step)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in running:
                process.send_signal(signal.SIGINT)  # pytest then stops the servers that it started
            raise
    if results.passed + results.failed == 0:
        results.steps.append(Step("tests chosen", ok=False, note="these arguments choose no test"))


def check_statically(python: Path) -> list[Step]:
    """Run every static check, also after one that failed."""
    programs = python.parent
    checks: Mapping[str, Sequence[str | Path]] = {
        "format": [programs / "ruff", "format", "--check", "."],
        "lint": [programs / "ruff", "check", "."],
        "spelling": [programs / "typos"],
        "imports": [programs / "lint-imports", "--no-logo", "--no-cache"],
        "security": [programs / "bandit", "--quiet", "--configfile", "pyproject.toml", "--recursive", *CODE],
        "types": [programs / "mypy"],
        "migrations": [python, "manage.py", "makemigrations", "--check", "--dry-run"],
    }
    env = os.environ | {"DJANGO_SETTINGS_MODULE": "tests.support.settings_for_types"}
    steps = []
    for name, command in checks.items():
        begun = time.monotonic()
        done = subprocess.run(
            command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        print(f"-- {name}\n{done.stdout.rstrip()}", flush=True)
        steps.append(Step(name, done.returncode == 0, "", time.monotonic() - begun))
    begun = time.monotonic()
    steps.append(Step("vulnerabilities", *audit(programs / "pip-audit"), time.monotonic() - begun))
    return steps


def run_suite(
    python: Path, suite: Suite, folder: Path, running: list[subprocess.Popen[str]], *, interactive: bool
) -> Step:
    """Run pytest once; its lines are shown as they come, with pair and layer before them."""
    begun = time.monotonic()
    where = [f"tests/{layer}" for layer in suite.layers]
    report = f"--junitxml={suite.report(folder)}"
    command = [str(python), "-m", "pytest", "--on", suite.pair, report, "--durations=10", *suite.arguments, *where]
    given = ("DATABASE_URL", "REDIS_URL", "STREAMING_TEST", "STREAMING_TEST_ON", "DJANGO_SETTINGS_MODULE")
    env = {name: value for name, value in os.environ.items() if name not in given}
    env |= {"COVERAGE_FILE": str(folder / f".coverage.{suite.pair}"), "PYTHONUNBUFFERED": "1"}
    env["STREAMING_TEST_PACKAGE"] = str(folder)
    terminal = None if interactive else subprocess.PIPE
    with subprocess.Popen(
        # pytest stops the servers that it started, also when this process is killed
        end_with_parent(command, signal.SIGINT), cwd=ROOT, env=env, stdin=None if interactive else subprocess.DEVNULL,
        stdout=terminal, stderr=subprocess.STDOUT if terminal else None, text=True, errors="replace",
    ) as process:  # fmt: skip
        running.append(process)
        for line in process.stdout or ():
            print(f"{suite.pair:>7} {suite.layers[-1] if suite.layers else ''} | {line}", end="", flush=True)
    return Step(suite.name, process.returncode in {0, NO_TESTS}, seconds=time.monotonic() - begun)


def measure_coverage(python: Path, folder: Path) -> Step:
    """Join what the traced runs, and the processes that they started, went through; judge it once."""
    env = os.environ | {"COVERAGE_FILE": str(folder / ".coverage")}
    coverage = [str(python), "-m", "coverage"]
    subprocess.run([*coverage, "combine", "--quiet", str(folder)], cwd=ROOT, env=env, check=False)
    report = subprocess.run([*coverage, "report"], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    print(f"-- coverage\n{report.stdout.rstrip()}{report.stderr}", flush=True)
    total = re.search(r"^TOTAL.*?(\d+(?:\.\d+)?)%$", report.stdout, re.MULTILINE)
    percent = float(total[1]) if total else 0.0
    return Step("coverage", percent >= COVERAGE_FLOOR, f"{percent:g} %, floor {COVERAGE_FLOOR} %")


def summarise(results: Results, seconds: float) -> int:
    """Print how each step ended and the sum of all tests."""
    print("\nSummary")
    for step in results.steps:
        took = f"{step.seconds:.0f} s" if step.seconds else ""
        print(f"  {'ok    ' if step.ok else 'FAILED'}  {step.name:<40} {took:>6}  {step.note}".rstrip())
    print(f"\nSeconds in tests{''.join(f'{pair:>9}' for pair in PAIRS)}")
    for layer in LAYERS:
        took = "".join(f"{results.seconds[layer, pair]:9.0f}" for pair in PAIRS)
        print(f"  {layer:<14}{took}")
    failed = [step.name for step in results.steps if not step.ok]
    print(f"{'Failed: ' + ', '.join(failed) if failed else 'Everything passed'}, in {seconds:.0f} s.")
    print(f"{results.passed} passed, {results.failed} failed, {results.skipped} skipped", flush=True)
    return 1 if failed else 0
