"""What script/test does: system packages, an environment, the static checks, the suite on two pairs, one summary."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

from environment import SetupError, ensure_environment

ROOT = Path(__file__).resolve().parent.parent
PAIRS = {"sqlite": "SQLite and Valkey", "mariadb": "MariaDB and Redis", "mysql": "MySQL and Redis"}
MYSQL_TOOL = "MYSQL_SERVER_TOOL"  # names a program that starts MySQL; without it there is none
COVERAGE_FLOOR = 90  # per cent of lines and branches, over both runs of the suite
NO_TESTS = 5  # pytest's exit code
SYSTEM_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"


def _program(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name, path=SYSTEM_PATH) is not None


def _has_python_headers() -> bool:
    return (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file()


def _has_mysql_headers() -> bool:
    found = subprocess.run(["pkg-config", "--exists", "libmariadb"], capture_output=True, check=False)
    return found.returncode == 0


# Debian's package -> whether what we want of it is here already.
NEEDS: Mapping[str, Callable[[], bool]] = {
    "mariadb-server": lambda: _program("mariadbd")() and _program("mariadb-install-db")(),
    "redis-server": _program("redis-server"),
    "gcc": _program("gcc"),
    "pkg-config": _program("pkg-config"),
    "libmariadb-dev": lambda: _program("pkg-config")() and _has_mysql_headers(),
    f"libpython3.{sys.version_info.minor}-dev": _has_python_headers,
    "curl": _program("curl"),
    "procps": _program("ps"),
    "openssl": _program("openssl"),
    "systemd": _program("systemd-analyze"),
    "chromium": _program("chromium"),
    "chromium-driver": _program("chromedriver"),
}


@dataclass
class Step:
    """A check, how it ended, and what the summary says of it."""

    name: str
    ok: bool = True
    note: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Suite:
    """A run of pytest."""

    pair: str
    arguments: tuple[str, ...]
    part: str = ""  # of the tests on this pair

    def report(self, folder: Path) -> Path:
        """Where pytest writes what became of each test."""
        return folder / f"{self.pair} {self.part}.xml"


@dataclass
class Tally:
    """What the tests of all runs came to."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    steps: list[Step] = field(default_factory=list)

    def add(self, report: Path) -> str:
        """Add pytest's own report (JUnit XML) and return it in words."""
        try:
            suite = ET.parse(report).getroot()[0].attrib  # noqa: S314  pytest wrote it a moment ago
        except (FileNotFoundError, ET.ParseError, IndexError):
            return "no report"
        failed = int(suite["failures"]) + int(suite["errors"])
        skipped = int(suite["skipped"])
        passed = int(suite["tests"]) - failed - skipped
        self.passed, self.failed, self.skipped = self.passed + passed, self.failed + failed, self.skipped + skipped
        return f"{passed} passed, {failed} failed, {skipped} skipped"


def main(arguments: Sequence[str]) -> int:
    """Run everything and print one summary; the exit code is 0 when all of it passed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    begun = time.monotonic()
    try:
        tally = check(arguments)
    except SetupError as error:
        print(f"script/test: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    return summarise(tally, time.monotonic() - begun)


def check(arguments: Sequence[str]) -> Tally:
    """Install what is needed and run everything; with arguments, the suite alone."""
    tally = Tally()
    install_system_packages()
    python = ensure_environment(ROOT / ".venv-test", [ROOT / "requirements.txt", ROOT / "requirements-dev.txt"])
    with tempfile.TemporaryDirectory(prefix="streaming-checks-") as folder:
        if not arguments:
            check_statically(python, tally)
        run_suites(python, arguments, Path(folder), tally)
        if not arguments:
            tally.steps.append(measure_coverage(python, Path(folder)))
    return tally


def install_system_packages() -> None:
    """Install what is missing, as root on Debian; elsewhere SetupError says what is missing."""
    missing = [package for package, is_here in NEEDS.items() if not is_here()]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SetupError(f"missing: {', '.join(missing)} (Debian's names). Install them, or run script/test as root.")
    print(f"Installing {', '.join(missing)} ...", flush=True)
    # RUNLEVEL: a server that is installed is not started by that; the tests start private ones.
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", *missing]):
        done = subprocess.run(
            ["apt-get", "-qq", *command], env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
        if done.returncode:
            raise SetupError(f"apt-get {command[0]} failed:\n{(done.stdout + done.stderr)[-3000:]}")
    missing = [package for package, is_here in NEEDS.items() if not is_here()]
    if missing:
        raise SetupError(f"still missing after their installation: {', '.join(missing)}")


def check_statically(python: Path, tally: Tally) -> None:
    """Run every static check, also after one that failed."""
    programs = python.parent
    checks: Mapping[str, Sequence[str | Path]] = {
        "format": [programs / "ruff", "format", "--check", "."],
        "lint": [programs / "ruff", "check", "."],
        "spelling": [programs / "typos"],
        "imports": [programs / "lint-imports", "--no-logo", "--no-cache"],
        "types": [programs / "mypy"],
        "migrations": [python, "manage.py", "makemigrations", "--check", "--dry-run"],
    }
    env = os.environ | {"DJANGO_SETTINGS_MODULE": "tests.support.settings_for_types"}
    for name, command in checks.items():
        begun = time.monotonic()
        done = subprocess.run(
            command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        print(f"-- {name}\n{done.stdout.rstrip()}", flush=True)
        tally.steps.append(Step(name, done.returncode == 0, "", time.monotonic() - begun))


def run_suites(python: Path, arguments: Sequence[str], folder: Path, tally: Tally) -> None:
    """Run the suite on each pair, two at a time, unless somebody wants to talk to a debugger."""
    interactive = any(argument in {"--pdb", "--trace", "-s"} for argument in arguments)
    suites = chosen_suites(arguments)
    running: list[subprocess.Popen[str]] = []
    with ThreadPoolExecutor(1 if interactive else 2) as pool:
        runs = [pool.submit(run_suite, python, suite, folder, running, interactive=interactive) for suite in suites]
        try:
            steps = [run.result() for run in runs]
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in running:
                process.send_signal(signal.SIGINT)  # pytest then stops the servers that it started
            raise
    for suite, step in zip(suites, steps, strict=True):
        step.note = tally.add(suite.report(folder))
        tally.steps.append(step)
    if tally.passed + tally.failed == 0:
        tally.steps.append(Step("tests chosen", ok=False, note="these arguments choose no test"))


def chosen_suites(arguments: Sequence[str]) -> list[Suite]:
    """The runs of pytest. All of it on MySQL comes in two parts, so that two run beside each other until the end."""
    whole = tuple(arguments) or ("--cov", "--cov-report=", "--durations=10")
    suites = [Suite("sqlite", whole), Suite("mariadb", whole)]
    if os.environ.get(MYSQL_TOOL):
        # The rest is the same as on MariaDB.
        if arguments:
            suites.append(Suite("mysql", ("-m", "database", *arguments)))
        else:
            suites += [
                Suite("mysql", ("-m", f"database and {part}", "--durations=10"), part) for part in ("slow", "not slow")
            ]
    return suites


def run_suite(
    python: Path, suite: Suite, folder: Path, running: list[subprocess.Popen[str]], *, interactive: bool
) -> Step:
    """Run pytest on one pair; its lines are shown as they come, with the pair's name before them."""
    begun = time.monotonic()
    report = f"--junitxml={suite.report(folder)}"
    command = [str(python), "-m", "pytest", "--on", suite.pair, report, *suite.arguments]
    given = ("DATABASE_URL", "REDIS_URL", "STREAMING_TEST", "STREAMING_TEST_ON", "DJANGO_SETTINGS_MODULE")
    env = {name: value for name, value in os.environ.items() if name not in given}
    env |= {"COVERAGE_FILE": str(folder / f".coverage.{suite.pair}"), "PYTHONUNBUFFERED": "1"}
    terminal = None if interactive else subprocess.PIPE
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdin=None if interactive else subprocess.DEVNULL,
        stdout=terminal, stderr=subprocess.STDOUT if terminal else None, text=True, errors="replace",
    ) as process:  # fmt: skip
        running.append(process)
        for line in process.stdout or ():
            print(f"{suite.pair:>7} | {line}", end="", flush=True)
    name = f"tests on {PAIRS[suite.pair]}{suite.part and ', ' + suite.part}"
    return Step(name, process.returncode in {0, NO_TESTS}, seconds=time.monotonic() - begun)


def measure_coverage(python: Path, folder: Path) -> Step:
    """Join what both runs, and the processes that they started, went through; judge it once."""
    env = os.environ | {"COVERAGE_FILE": str(folder / ".coverage")}
    coverage = [str(python), "-m", "coverage"]
    subprocess.run([*coverage, "combine", "--quiet", str(folder)], cwd=ROOT, env=env, check=False)
    report = subprocess.run([*coverage, "report"], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    print(f"-- coverage\n{report.stdout.rstrip()}{report.stderr}", flush=True)
    total = re.search(r"^TOTAL.*?(\d+(?:\.\d+)?)%$", report.stdout, re.MULTILINE)
    percent = float(total[1]) if total else 0.0
    return Step("coverage", percent >= COVERAGE_FLOOR, f"{percent:g} %, floor {COVERAGE_FLOOR} %")


def summarise(tally: Tally, seconds: float) -> int:
    """Print how each step ended and the sum of all tests."""
    print("\nSummary")
    for step in tally.steps:
        took = f"{step.seconds:.0f} s" if step.seconds else ""
        print(f"  {'ok    ' if step.ok else 'FAILED'}  {step.name:<34} {took:>6}  {step.note}".rstrip())
    failed = [step.name for step in tally.steps if not step.ok]
    print(f"{'Failed: ' + ', '.join(failed) if failed else 'Everything passed'}, in {seconds:.0f} s.")
    print(f"{tally.passed} passed, {tally.failed} failed, {tally.skipped} skipped", flush=True)
    return 1 if failed else 0
