"""The house as it stands: what the contracts in pyproject.toml cannot see of it."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from servers import ROOT

ROOMS = sorted(
    path.stem
    for folder in ("streaming", "videos", "videos/api")
    for path in (ROOT / folder).glob("*")
    if (path.suffix == ".py" or (path / "__init__.py").exists()) and path.stem not in {"__init__", "migrations", "api"}
)
SCRIPTS = [
    path
    for path in sorted((ROOT / "script").iterdir())
    if path.is_file() and path.read_text().startswith("#!/usr/bin/env python3")
]
SHOWN = {"views", "views.py", "admin", "admin.py", "api"}  # what a view or an admin page lies in, as file or as folder
MANAGERS = {"objects", "_default_manager", "_base_manager"}

pytestmark = pytest.mark.once


@pytest.mark.parametrize("room", ROOMS)
def test_architecture_names_every_room(room: str) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    rooms = page.split("## Rooms", 1)[1].split("\n## ", 1)[0]
    code = " ".join(re.findall(r"```.*?```|`[^`\n]+`", rooms, re.DOTALL))
    assert re.search(rf"\b{room}\b", code)


@pytest.mark.parametrize("name", [path.name for path in SCRIPTS])
def test_a_script_finds_its_modules_in_a_bare_python(name: str) -> None:
    command = [sys.executable, "-I", "-S", "-c", f"import runpy; runpy.run_path('script/{name}', run_name='imported')"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_view_and_no_admin_page_reaches_a_manager() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted((ROOT / "videos").rglob("*.py"))
        if SHOWN & set(path.relative_to(ROOT / "videos").parts)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in MANAGERS
    ]
    assert found == []


@pytest.mark.parametrize("path", sorted((ROOT / "videos" / "ledger").glob("*.py")), ids=lambda path: path.name)
def test_the_ledger_reaches_rows_through_the_writer_only(path: Path) -> None:
    tree = ast.parse(path.read_text())
    managers = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in MANAGERS]
    imported = {
        name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "django.db"
        for name in node.names
    }
    if path.name != "writer.py":
        assert (managers, imported & {"connection", "transaction", "router"}) == ([], set())
    else:
        assert imported
