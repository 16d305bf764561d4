"""Two minutes of script/soak: every kind of fault once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from servers import ROOT, end_with_parent
from tests.soak.faults import KINDS, TARGETS


@pytest.mark.slow
@pytest.mark.only("mariadb")
@pytest.mark.timeout(600)
def test_two_minutes_of_faults_lose_nothing(tmp_path: Path) -> None:
    """The rate leaves a core to the tests beside it."""
    command = [sys.executable, "-m", "tests.soak", "2", "--rate", "250", "--to", str(tmp_path / "report")]
    done = subprocess.run(end_with_parent(command), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "report" / "soak.json").read_text())
    assert len(result["faults"]) == len(TARGETS) * len(KINDS)
    assert result["sums"]["views_stored"] > 1000
    assert result["sums"]["like_rows"] > 1000
    assert "<svg" in (tmp_path / "report" / "soak.svg").read_text()
