"""A virtual environment with the packages of a requirements file: made once, updated when that file changes."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

STAMP = "requirements.stamp"  # in the environment: its Python, and a hash of the installed requirements


class SetupError(Exception):
    """Something is missing; the message names it and the cure."""


def ensure_environment(folder: Path, requirements: Sequence[Path]) -> Path:
    """Return the environment's Python, with `requirements` installed. A lock lets one process install at a time."""
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        python = folder / "bin" / "python"
        stamp = folder / STAMP
        digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in requirements)).hexdigest()
        version = _version(python)
        installed = stamp.read_text().split() if stamp.is_file() else []
        if version and installed == [version, digest]:
            return python
        if version is None or (installed and installed[0] != version):
            if not stamp.is_file() and (folder / "pyvenv.cfg").exists():
                raise SetupError(f"The environment in {folder} does not work. Remove it and start again.")
            stamp.write_text("")  # marks the folder as ours, also when this is interrupted
            with _step(f"Making a virtual environment in {folder.name}"):
                _make(folder)
        with _step(f"Installing {' and '.join(path.name for path in requirements)}, once"):
            _install(python, requirements)
        stamp.write_text(f"{_version(python)} {digest}")
        return python


def _version(python: Path) -> str | None:
    # After its Python was upgraded or removed, an environment looks complete but does not start.
    if not python.exists():
        return None
    show = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", show], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _make(folder: Path) -> None:
    if importlib.util.find_spec("ensurepip") is not None:
        options = []
    elif importlib.util.find_spec("pip") is not None:
        options = ["--without-pip"]  # the system's `pip --python` installs into it
    else:
        raise SetupError("This Python lacks venv and pip (Debian and Ubuntu: apt install python3-venv).")
    for name in ("bin", "include", "lib", "lib64", "pyvenv.cfg"):  # remains of an environment whose Python is gone
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    _run([sys.executable, "-m", "venv", *options, str(folder)])


def _install(python: Path, requirements: Sequence[Path]) -> None:
    has_pip = subprocess.run([python, "-c", "import pip"], capture_output=True, check=False).returncode == 0
    pip = [str(python), "-m", "pip"] if has_pip else [sys.executable, "-m", "pip", "--python", str(python)]
    files = [part for path in requirements for part in ("-r", str(path))]
    _run([*pip, "install", "--quiet", "--disable-pip-version-check", "--no-input", *files])


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise SetupError(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}")


@contextlib.contextmanager
def _step(what: str) -> Iterator[None]:
    print(f"{what} ...", end=" ", flush=True)
    begun = time.monotonic()
    try:
        yield
    except BaseException:
        print("failed", flush=True)
        raise
    print(f"{time.monotonic() - begun:.0f} s", flush=True)
