"""The Debian packages that script/test needs: servers, compilers, headers, a browser."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path

from environment import SetupError

SYSTEM_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"


def _program(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name, path=SYSTEM_PATH) is not None


def _has_python_headers() -> bool:
    return (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file()


def _has_mysql_headers() -> bool:
    found = subprocess.run(["pkg-config", "--exists", "libmariadb"], capture_output=True, check=False)
    return found.returncode == 0


# Debian's package -> whether the needed part of it is installed.
NEEDS: Mapping[str, Callable[[], bool]] = {
    "mariadb-server": lambda: _program("mariadbd")() and _program("mariadb-install-db")(),
    "redis-server": _program("redis-server"),
    "gcc": _program("gcc"),
    "pkg-config": _program("pkg-config"),
    "libmariadb-dev": lambda: _program("pkg-config")() and _has_mysql_headers(),
    f"libpython3.{sys.version_info.minor}-dev": _has_python_headers,
    "curl": _program("curl"),
    "procps": _program("ps"),
    "openssl": _program("openssl"),
    "nginx": _program("nginx"),
    "haproxy": _program("haproxy"),
    "caddy": _program("caddy"),
    "systemd": _program("systemd-analyze"),
    "chromium": _program("chromium"),
}


def install_packages() -> None:
    """Install what is missing, as root on Debian; elsewhere SetupError says what is missing."""
    missing = [package for package, is_here in NEEDS.items() if not is_here()]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SetupError(f"missing: {', '.join(missing)} (Debian's names). Install them, or run script/test as root.")
    print(f"Installing {', '.join(missing)} ...", flush=True)
    # RUNLEVEL: a server that is installed is not started by that; the tests start private ones.
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", *missing]):
        done = subprocess.run(
            ["apt-get", "-qq", *command], env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
        if done.returncode:
            raise SetupError(f"apt-get {command[0]} failed:\n{(done.stdout + done.stderr)[-3000:]}")
    missing = [package for package, is_here in NEEDS.items() if not is_here()]
    if missing:
        raise SetupError(f"still missing after their installation: {', '.join(missing)}")
