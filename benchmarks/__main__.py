"""`python -m benchmarks [--quick] [topic ...]`: run topics, save results, renew the page. Called by `script/bench`."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

from benchmarks import machine, report
from benchmarks.results import RESULTS, Result, Run
from servers import StartFailed, private_servers

TOPICS = (
    "headline", "rates", "batch", "flush", "pace", "felt", "reads", "growth", "openloop", "cost", "memory", "webserver",
    "microseconds",
)  # fmt: skip
ROUNDS = 5


def main() -> int:
    """Run what was asked for; 1 when a promise does not hold, 2 when something broke."""
    options = _options()
    began = time.monotonic()
    if options.quick:
        os.environ["BENCH_QUICK"] = "1"

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:6.0f} s] {text}", flush=True)

    try:
        with private_servers() as servers:
            found = []
            facts = machine.facts(servers)
            for topic in options.topics or TOPICS:
                say(topic)
                run = Run(servers, options.quick, 1 if options.quick else options.rounds, say)
                found.append(_measure(topic, run, facts))
    except KeyboardInterrupt:
        print("Stopped; everything that was started has ended.", file=sys.stderr)
        return 130
    except StartFailed as error:
        print(error, file=sys.stderr)
        return 2
    return _tell(found, options.quick)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    parser.add_argument("topics", nargs="*", metavar="topic", choices=[[], *TOPICS], help=", ".join(TOPICS))
    parser.add_argument(
        "--quick", action="store_true", help="try the harness out, in under three minutes; judges no times"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds of each topic ({ROUNDS})")
    parser.add_argument("--report", action="store_true", help="only renew the page from the results that are there")
    options = parser.parse_args()
    if options.report:
        report.write(TOPICS)
        raise SystemExit(0)
    return options


def _measure(topic: str, run: Run, facts: dict[str, str]) -> Result:
    began = time.monotonic()
    result: Result = import_module(f"benchmarks.{topic}").measure(run)
    result.seconds = time.monotonic() - began
    result.facts = facts
    result.quick = run.quick
    if not run.quick:
        result.save()  # at once: a later topic that breaks takes nothing with it
    return result


def _tell(found: list[Result], quick: bool) -> int:
    if quick:
        print("The harness works. Judged are counts, no times:")
        print(report.claims(claim for result in found for claim in result.claims if claim.exact))
        with tempfile.TemporaryDirectory() as folder:
            # The page and the plots are made too, in a place that is thrown away.
            page = Path(shutil.copy(report.PAGE, folder))
            for result in found:
                result.save(Path(folder))
            report.write([result.topic for result in found], Path(folder), page, Path(folder) / "img")
        wrong = [claim for result in found for claim in result.claims if claim.exact and not claim.holds]
        for claim in wrong:
            print(f"Not exact: {claim.text}: {claim.seen:g}", file=sys.stderr)
        return 1 if wrong else 0
    print(report.summary(found))
    report.write(TOPICS, RESULTS)
    return 0 if all(claim.holds for result in found for claim in result.claims) else 1


if __name__ == "__main__":
    raise SystemExit(main())
