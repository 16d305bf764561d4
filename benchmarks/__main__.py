"""`python -m benchmarks [--quick] [topic ...]`: run topics, save results, renew the page. Called by `script/bench`."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from benchmarks import against, machine, report
from benchmarks.results import Result, Run
from servers import StartFailed, private_servers

TOPICS = ("headline", "rates", "latency", "overload", "flush", "felt", "reads", "search", "trending", "admin", "cost")
ROUNDS = 5


def main() -> int:
    """Run what was asked for; 1 when a promise does not hold, 2 when something broke."""
    options = _options()
    began = time.monotonic()
    if options.report:
        report.write(TOPICS)
        return 0
    if options.quick:
        os.environ["BENCH_QUICK"] = "1"

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:6.0f} s] {text}", flush=True)

    try:
        with private_servers() as servers:
            run = Run(servers, options.quick, 1 if options.quick else options.rounds, say)
            if options.against:
                return against.compare(run, options.topics or list(against.TOPICS), options.against)
            facts = machine.facts(servers)
            found = [_measure(topic, run, facts) for topic in options.topics or TOPICS]
    except KeyboardInterrupt:
        print("Stopped; everything that was started has ended.", file=sys.stderr)
        return 130
    except StartFailed as error:
        print(error, file=sys.stderr)
        return 2
    return _judge_counts(found) if options.quick else _judge(found)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    parser.add_argument("topics", nargs="*", metavar="topic", choices=[[], *TOPICS], help=", ".join(TOPICS))
    parser.add_argument("--quick", action="store_true", help="try the harness out, in two minutes; judges no times")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds of each topic ({ROUNDS})")
    parser.add_argument("--report", action="store_true", help="only renew the page from the results that are there")
    parser.add_argument(
        "--against", metavar="COMMIT", help="measure this checkout and another commit in turns, and print the ratios"
    )
    options = parser.parse_args()
    if options.against and not set(options.topics) <= set(against.TOPICS):
        parser.error(f"--against compares {' and '.join(against.TOPICS)}.")
    return options


def _measure(topic: str, run: Run, facts: dict[str, str]) -> Result:
    run.say(topic)
    began = time.monotonic()
    measure: Callable[[Run], Result] = import_module(f"benchmarks.{topic}").measure
    result = measure(run)
    result.seconds = round(time.monotonic() - began, 1)
    result.facts = facts
    if not run.quick:
        result.save()  # at once: a later topic that breaks takes nothing with it
    return result


def _judge_counts(found: list[Result]) -> int:
    """Judge what holds on any machine, and make the page and the plots in a place that is thrown away."""
    exact = [claim for result in found for claim in result.claims if claim.exact]
    print("The harness works. Judged are counts, no times:")
    print(report.claims(exact))
    with tempfile.TemporaryDirectory() as folder:
        page = Path(shutil.copy(report.PAGE, folder))
        for result in found:
            result.save(Path(folder))
        report.write([result.topic for result in found], Path(folder), page, Path(folder) / "img")
    for claim in exact:
        if not claim.holds:
            print(f"Not exact: {claim.text}: {claim.seen:g}", file=sys.stderr)
    return 0 if all(claim.holds for claim in exact) else 1


def _judge(found: list[Result]) -> int:
    claims = [claim for result in found for claim in result.claims]
    print(report.claims(claims))
    report.write(TOPICS)
    return 0 if all(claim.holds for claim in claims) else 1


if __name__ == "__main__":
    raise SystemExit(main())
