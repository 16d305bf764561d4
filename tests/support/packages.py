"""Builds the function's zip as a deployer does, and opens it as Lambda does: alone, beside the runtime's Python."""

import fcntl
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from servers import ROOT

LOCAL_RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"
BUILD_SECONDS = 240.0  # the first one also installs Zappa
SECRET = "hunter2-lies-about-where-a-deployer-may-have-one"  # when the tests' zip is built


def captured(command: Sequence[object], *, check: bool = False, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and keep what it prints; the caller judges its exit code, or wants it to be checked."""
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=check, **options)


def copy_repository(target: Path, *, git: bool) -> Path:
    """A copy of what git knows of this repository, as it stands now; with a git folder of its own, or as an archive."""
    listed = captured(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], check=True, cwd=ROOT)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    if git:
        subprocess.run(["git", "init", "-q", target], check=True)
        subprocess.run(["git", "-C", target, "add", "-A"], check=True)
    shared = ROOT / ".venv-deploy"  # so that Zappa is installed once
    shared.mkdir(exist_ok=True)
    (target / shared.name).symlink_to(shared)
    # Who signed the database's certificate: public, and wanted in the zip.
    (target / "deploy" / "certificates.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    return target


def strew_secrets(repository: Path) -> dict[str, str]:
    """Leave a secret in files that git ignores or does not know, and return an environment that has it too."""
    (repository / "var").mkdir()
    for ignored in ("var/env", ".env", "db.sqlite3", "notes.txt", "deploy/certificate.key"):
        (repository / ignored).write_text(f"SECRET_KEY={SECRET}\n")
    return dict.fromkeys(("SECRET_KEY", "DATABASE_URL", "REDIS_URL"), f"mysql://root:{SECRET}@localhost/x")


def build(
    repository: Path,
    output: Path,
    *,
    stage: str = "production",
    runtime: str = LOCAL_RUNTIME,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run script/package; the caller judges its exit code."""
    command = [sys.executable, repository / "script" / "package", stage, "--runtime", runtime, "--output", output]
    return captured(command, timeout=BUILD_SECONDS, env={**os.environ, **(environment or {})})


def build_once(folder: Path) -> Path:
    """The zip in this folder, built from a copy of the repository with secrets by the first process that needs it."""
    package = folder / "package.zip"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not package.exists():
            repository = copy_repository(folder / "repository", git=True)
            built = build(repository, folder / "new.zip", environment=strew_secrets(repository))
            assert built.returncode == 0, built.stderr[-3000:]
            (folder / "new.zip").rename(package)
    return package


def unpack(package: Path, target: Path) -> Path:
    """The zip's files in a folder, as Lambda lays them out."""
    with zipfile.ZipFile(package) as archive:
        archive.extractall(target)
    return target


def bare_python() -> str:
    """This Python without the packages that are installed for it, when it is started with `-S`."""
    return str(getattr(sys, "_base_executable", sys.executable))


def run_alone(
    task: Path,
    code: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    wrapper: Sequence[str] = (),
    python: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run Python code that sees the unpacked zip and the standard library, nothing else."""
    path = {"PYTHONPATH": str(task), "PATH": os.defpath, "PYTHONPYCACHEPREFIX": f"{task}-bytecode"}
    path |= {"SECRET_KEY": "x" * 50, "ALLOWED_HOSTS": "localhost"}
    path |= {"DATABASE_URL": "mysql://a@nowhere/b", "REDIS_URL": "redis://nowhere"}
    command = [*wrapper, python or bare_python(), "-S", "-c", code, *arguments]
    return captured(command, cwd=task, env={**path, **(environment or {})}, timeout=60)
