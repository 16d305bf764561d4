"""Compares the pinned packages with the known vulnerabilities (pip-audit)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PINS = ("requirements.txt", "requirements/dev.txt", "requirements/embedded.txt")
SOURCES = ("pypi", "osv")  # of what is known: pypi.org's JSON, osv.dev
LONGEST_SECONDS = 120


def audit(program: Path) -> tuple[bool, str]:
    """Whether no pinned package has a known vulnerability, and a note. Where no source answers, nothing is known."""
    files = [part for name in PINS for part in ("--requirement", str(ROOT / name))]
    for source in SOURCES:
        options = ["--vulnerability-service", source, "--no-deps", "--disable-pip", "--progress-spinner", "off"]
        try:
            done = subprocess.run(
                [program, *options, "--format", "json", *files],
                capture_output=True, text=True, check=False, timeout=LONGEST_SECONDS,
            )  # fmt: skip
            packages = json.loads(done.stdout)["dependencies"]
        except (subprocess.TimeoutExpired, ValueError, KeyError):
            continue
        audited = [package for package in packages if "vulns" in package]  # pip-audit passes over unknown packages
        found = [f"{one['name']} {one['version']}: {fault['id']}" for one in audited for fault in one["vulns"]]
        if audited:
            print(f"-- vulnerabilities\n{chr(10).join(found)}", flush=True)
            left = len(packages) - len(audited)
            return not found, ", ".join(found) or (f"{left} of {len(packages)} packages not audited" if left else "")
    return True, "not audited: no data reachable"
