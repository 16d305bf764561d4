"""Runs a program under settings of an operator: the service's own, and lines after them, in a process of its own."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from servers import ROOT, call

MODULE = "operator_settings"
SECONDS = 200.0


class Seen(NamedTuple):
    """What `exercise` saw."""

    checks: list[str]  # ids of the system checks that speak
    faults: list[str]


def environment_of(folder: Path, lines: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process whose settings are the service's, with these lines after them."""
    (folder / f"{MODULE}.py").write_text(f"from streaming.settings import *\n\n{lines}\n")
    return {**environment, "DJANGO_SETTINGS_MODULE": MODULE, "PYTHONPATH": f"{folder}:{ROOT}"}


def exercise(folder: Path, lines: str, environment: Mapping[str, str], *arguments: str) -> Seen:
    """Use the whole service once under these settings, on the databases that the environment names.

    With `--checks` only the system checks run.
    """
    env = environment_of(folder, lines, environment)
    done = call([sys.executable, "-m", "tests.support.exercise", *arguments], env, check=False, timeout=SECONDS)
    if done.returncode:
        return Seen([], [done.stderr[-3000:]])
    value = json.loads(done.stdout.splitlines()[-1])
    return Seen(value["checks"], value["faults"])
