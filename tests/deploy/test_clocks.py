"""The units of systemd and the manifests of Kubernetes that run the flush and the web servers without AWS."""

import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from servers import PYTHON, ROOT, Process, wait_until
from tests.conftest import unavailable

pytestmark = [pytest.mark.slow, pytest.mark.once]

UNITS = {path.name: path.read_text() for path in (ROOT / "deploy" / "systemd").iterdir()}
MANIFESTS = [
    manifest
    for path in sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
    for manifest in yaml.safe_load_all(path.read_text())
]
# The arguments of every manage.py command in a unit or a manifest.
COMMANDS = [line.split() for line in re.findall(r"\nExecStart=.*manage\.py (.*)", "\n".join(UNITS.values()))]
COMMANDS += [
    container["command"][2:]
    for manifest in MANIFESTS
    if manifest["kind"] == "CronJob"
    for container in manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
]


@pytest.mark.parametrize("key", ["OnCalendar=", "OnCalender="])
def test_systemd_takes_the_units_and_refuses_a_misspelt_one(tmp_path: Path, key: str) -> None:
    if shutil.which("systemd-analyze") is None:
        unavailable("systemd-analyze is not installed (Debian: apt install systemd)")
    for name, text in UNITS.items():  # a test machine has neither the paths nor the user of the units
        command = re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", text).replace("User=streaming", "User=root")
        (tmp_path / name).write_text(command.replace("OnCalendar=", key))
    units = [*tmp_path.glob("*.timer"), *tmp_path.glob("*.service")]
    verified = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    told = [
        line
        for line in verified.stderr.splitlines()
        if str(tmp_path) in line or line.startswith(("flush-", "streaming-"))
    ]
    assert (not told and verified.returncode == 0) == (key == "OnCalendar="), verified.stderr


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: str(manifest["kind"]))
def test_kubernetes_takes_the_manifests_and_refuses_a_misspelt_one(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, "1.34", strict=True)
    spec = dict(manifest["spec"])
    key = {"CronJob": "schedule", "Deployment": "template", "Service": "ports"}[manifest["kind"]]
    misspelt = {**manifest, "spec": {**spec, f"{key}x": spec.pop(key)}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(misspelt, "1.34", strict=True)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_commands_of_the_files_run(command: list[str], manage: Callable[..., Process]) -> None:
    process = manage(*command)
    wait_until(lambda: '"batches"' in process.output or not process.running, what="a run of the flush")
    if "--every" in command:
        process.send(signal.SIGTERM)
    assert process.wait() == 0, process.output


@pytest.mark.parametrize("text", [*UNITS.values(), (ROOT / "deploy" / "kubernetes" / "web.yaml").read_text()])
def test_options_of_the_web_server_are_its_own(text: str) -> None:
    found = re.findall(r"streaming\.serve[\" ,]*(--.*?)\]?$", text, re.MULTILINE)
    for line in found:
        words = re.findall(r"[^\s\",]+", line)
        shown = subprocess.run(
            [PYTHON, "-m", "streaming.serve", *words, "--help"], capture_output=True, text=True, cwd=ROOT, check=True
        )
        assert set(re.findall(r"--[a-z-]+", line)) <= set(re.findall(r"--[a-z-]+", shown.stdout))
    assert bool(found) is ("streaming.serve" in text)
