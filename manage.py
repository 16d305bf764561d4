#!/usr/bin/env python3
"""Django's command-line door. Uses the environment that `script/server` made when this Python has no Django."""

import os
import sys
from pathlib import Path

EMBEDDED_PYTHON = Path(__file__).resolve().parent / ".venv" / "bin" / "python"


def main() -> None:
    """Run one management command."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "streaming.settings")
    try:
        from django.core.management import execute_from_command_line
    except ImportError as error:
        if EMBEDDED_PYTHON.exists() and Path(sys.prefix) != EMBEDDED_PYTHON.parent.parent:
            os.execv(EMBEDDED_PYTHON, [str(EMBEDDED_PYTHON), *sys.argv])  # noqa: S606
        raise SystemExit(
            "Django is not installed for this Python: run script/server once, or "
            "`pip install -r requirements.txt` in a virtual environment of your own."
        ) from error
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
