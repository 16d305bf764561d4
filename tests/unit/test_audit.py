"""What script/test says of vulnerable packages, of unknown ones, and where it cannot know."""

import json
from pathlib import Path

import pytest

from servers import ROOT

pytestmark = pytest.mark.once
FINE = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": []}]}
UNKNOWN = {"name": "c", "skip_reason": "not found"}
NOT_AUDITED = (True, "not audited: no data reachable")


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        (json.dumps({"dependencies": [FINE]}), (True, "")),
        (json.dumps({"dependencies": [FINE, BAD]}), (False, "b 2: CVE-1")),
        (json.dumps({"dependencies": [FINE, UNKNOWN]}), (True, "1 of 2 packages not audited")),
        (json.dumps({"dependencies": [UNKNOWN]}), NOT_AUDITED),
        ("", NOT_AUDITED),
    ],
)
def test_what_an_audit_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str, expected: tuple[bool, str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "script"))
    from audit import audit

    program = tmp_path / "pip-audit"
    program.write_text(f"#!/bin/sh\necho '{printed}'\nexit 1\n")
    program.chmod(0o700)
    assert audit(program) == expected
