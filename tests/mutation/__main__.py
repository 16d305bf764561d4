"""Changes every statement of the protocol's code, one at a time, and shows which changes no test catches.

Works on a copy of the tree. Results are kept as they come, so a run that was stopped goes on where it was. What was
caught stays caught: a second run with --on or --tests tries the survivors alone. survivors.toml says why they survive.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from servers.process import end_with_parent
from tests.mutation.mutants import Mutant, find
from tests.mutation.runner import ROUNDS_SECONDS, Runner

FOLDERS = ("videos/counters/lua", "videos/flush", "videos/ledger")
EXPLAINED = Path(__file__).with_name("survivors.toml")
BEGIN_AGAIN = 75  # an exit code: with another Redis
LEFT_BEHIND = shutil.ignore_patterns(".*", "var", "results", "__pycache__")
NO_RESULT: Mapping[str, Any] = {"round": 0, "caught": ""}


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="script/mutants", description=__doc__)
    parser.add_argument("paths", nargs="*", default=FOLDERS, metavar="PATH", help="file, folder, or FILE:LINE")
    parser.add_argument("--on", default="sqlite", choices=("sqlite", "mariadb", "mysql"), help="database and Redis")
    parser.add_argument("--tests", nargs="+", default=["tests/protocol"], help="that should catch the mutants")
    parser.add_argument("-k", default="", help="as pytest's")
    parser.add_argument("--rounds", type=int, default=len(ROUNDS_SECONDS), help="1: only the quickest tests")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only about one statement of N, as a sample")
    parser.add_argument("--again", action="store_true", help="try survivors from the first round on")
    parser.add_argument("--show", action="store_true", help="show the results, and run nothing")
    parser.add_argument("--to", type=Path, default=Path("var/mutants.jsonl"), help="where the results are kept")
    return parser.parse_args(arguments)


def read_results(file: Path) -> dict[str, dict[str, Any]]:
    """The last result of each mutant, or the one that says what caught it."""
    results: dict[str, dict[str, Any]] = {}
    for line in file.read_text().splitlines() if file.exists() else ():
        result = json.loads(line)
        if not results.get(result["key"], NO_RESULT)["caught"]:
            results[result["key"]] = result
    return results


def reasons() -> dict[str, str]:
    """Why mutants may survive, by "file: statement"."""
    entries = tomllib.loads(EXPLAINED.read_text())["survivors"]
    return {f"{entry['file']}: {text}": entry["reason"] for entry in entries for text in entry["statements"]}


def summary(mutants: Iterable[Mutant], results: Mapping[str, Mapping[str, Any]], *, whole: bool) -> tuple[str, bool]:
    """The scores; survivors without a reason, and reasons without a survivor; whether there are none of both."""
    total, caught, without, known = Counter[str](), Counter[str](), [], reasons()
    needed, paths = set(), set()
    for mutant in mutants:
        by = results.get(mutant.key, NO_RESULT)["caught"]
        paths.add(mutant.path)
        if not by:
            needed.add(mutant.place)
        if mutant.key in results:
            for name in (mutant.path, str(Path(mutant.path).parent), "all"):
                total[name] += 1
                caught[name] += bool(by)
            if not by and mutant.place not in known:
                without.append(f"{mutant.path}:{mutant.line} [{mutant.kind}] {mutant.statement}")
    names = sorted(total, key=lambda name: (name == "all", name))
    lines = [f"{name:36} {total[name]:5} {caught[name]:5}  {caught[name] / total[name]:6.1%}" for name in names]
    stale = [key for key in known if key not in needed and key.partition(":")[0] in paths] if whole else []
    lines = [f"{'':36} {'run':>5} {'caught':>5}", *lines]
    lines += ["", "Survivors without a reason:", *without] if without else []
    lines += ["", "Reasons without a survivor:", *stale] if stale else []
    return "\n".join(lines), not without and not stale


def judge_all(options: argparse.Namespace) -> int:
    """Judge the mutants that are left; in the copy of the tree."""
    results = read_results(options.to)
    todo = {}
    for mutant in find(Path.cwd(), options.paths):
        if zlib.crc32(mutant.key.encode()) % options.every:
            continue
        result = results.get(mutant.key, NO_RESULT)
        if not result["caught"]:
            todo[mutant] = 0 if options.again else result["round"]
    done, began = Counter[int](), time.monotonic()

    def judged(mutant: Mutant, number: int, by: str) -> None:
        with options.to.open("a") as file:
            file.write(json.dumps({"key": mutant.key, "round": number, "caught": by, "on": options.on}) + "\n")
        done[number] += 1
        sys.stderr.write(
            f"round {number}: {done[number]} of at most {len(todo)}, {time.monotonic() - began:.0f} s: {mutant.path}:"
            f"{mutant.line} [{mutant.kind}] {mutant.statement[:60]}: {f'caught by {by}' if by else 'survives'}\n"
        )

    runner = Runner(todo, judged, rounds=options.rounds, known=options.to.with_suffix(f".{options.on}.json"))
    command = ["-q", "-s", "-p", "no:randomly", "-p", "no:cacheprovider", "-k", options.k, "--on", options.on]
    code = pytest.main([*command, *options.tests], plugins=[runner]) if todo else 0
    return BEGIN_AGAIN if runner.stuck else int(code)


def main() -> int:
    """Copy the tree, run there, and sum up."""
    options = parse(sys.argv[1:])
    root = Path.cwd()
    if "MUTANTS_ROOT" in os.environ:
        options.to = Path(os.environ["MUTANTS_ROOT"]) / options.to
        return judge_all(options)
    code = 0
    if not options.show:
        options.to.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
            copy = Path(folder).resolve() / "tree"
            shutil.copytree(root, copy, ignore=LEFT_BEHIND)
            environment = os.environ | {"MUTANTS_ROOT": str(root)}
            code = BEGIN_AGAIN
            while code == BEGIN_AGAIN:
                command = end_with_parent([sys.executable, "-m", "tests.mutation", *sys.argv[1:]])
                code = subprocess.run(command, cwd=copy, env=environment, check=False).returncode
    whole = not any(":" in path for path in options.paths)
    text, right = summary(find(root, options.paths), read_results(options.to), whole=whole)
    sys.stdout.write(text + "\n")
    return code or int(not right)


if __name__ == "__main__":
    sys.exit(main())
