"""script/mutants finds what tests/protocol catches, and what it does not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from servers import ROOT
from tests.mutation.mutants import find

CAUGHT = {  # a script, a statement of Python, one that runs at import
    "videos/counters/lua/confirm.lua": "if batch[2] ~= number then",
    "videos/ledger/batches.py": "elif number is not None and row.flushed_batch >= number",
    "videos/ledger/sql.py": "_ADD_SUMS: Final",
}
SURVIVES = {"videos/counters/lua/recent.lua": "redis.call('ZADD'"}  # random orders do not look at "my likes"


@pytest.mark.slow
@pytest.mark.only("sqlite")
def test_mutants_are_caught_or_survive(tmp_path: Path) -> None:
    chosen = [
        next(mutant for mutant in find(ROOT, [path]) if mutant.statement.startswith(text))
        for path, text in (CAUGHT | SURVIVES).items()
    ]
    tests = ["--tests", "tests/protocol/test_interleavings.py", "-k", "steps and (none or both)", "--rounds", "1"]
    places = [f"{mutant.path}:{mutant.line}" for mutant in chosen]
    command = [sys.executable, "-m", "tests.mutation", *places, *tests, "--to", str(tmp_path / "results.jsonl")]
    environment = {"PATH": os.environ["PATH"]}  # without the servers of this run
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    results = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    caught = {result["key"]: bool(result["caught"]) for result in results}
    assert caught == {mutant.key: mutant.path in CAUGHT for mutant in chosen}, done.stderr
    assert done.returncode == 1
    assert "recent.lua" in done.stdout.partition("without a reason")[2]
