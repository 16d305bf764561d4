"""The house: imports run one way, from the doors down to the settings, and each vendor stays in its room."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

pytestmark = pytest.mark.once

# A room may import rooms of the rows below its own, and none beside it.
ROWS = (
    {"streaming.urls", "streaming.schedule", "streaming.wsgi", "streaming.settings"},
    {"videos.urls", "videos.management", "videos.apps"},
    {"videos.views", "videos.admin", "videos.health", "videos.checks", "videos.signals"},
    {"videos.express"},
    {
        *("videos.serializers", "videos.throttling"),
        *("videos.pagination", "videos.negotiation"),
    },
    {"videos.viewers"},
    {"videos.services", "videos.flush"},
    {"videos.counters", "videos.ledger"},
    {"videos.models", "videos.fields"},
    {"videos.conf", "videos.changes"},
)
ROW_OF = {room: row for row, rooms in enumerate(ROWS) for room in rooms}
WALLS = {
    "videos.counters": {"videos.models"},
    "videos.views": {"videos.counters", "videos.ledger"},
}
VENDORS = {"redis": "videos.counters", "django_redis": "videos.counters"}
NOT_ROOMS = {"videos", "videos.api", "streaming", "videos.migrations"}


def room_of(module: str) -> str:
    """The room that a module of ours is part of: `videos.ledger` for `videos.ledger.sql`."""
    return ".".join(module.split(".")[:2])


def imported_modules(source: str, *, module: str, is_package: bool = False) -> Iterator[str]:
    """What a module imports anywhere in it, also in functions and for types; `from a import b` gives a and a.b."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def faults(module: str, imports: Iterable[str]) -> list[str]:
    """What is wrong with the imports of a module."""
    own = room_of(module)
    found = set()
    for target in imports:
        vendor = target.split(".")[0]
        room = room_of(target)
        if VENDORS.get(vendor, own) != own:
            found.add(f"{module} imports {vendor}: only {VENDORS[vendor]} may")
        elif room in ROW_OF and room != own and ROW_OF[room] <= ROW_OF[own]:
            found.add(f"{module} imports {room}, which is not below it")
        elif room in WALLS.get(own, ()):
            found.add(f"{module} imports {room}: there is a wall between them")
    return sorted(found)


def modules() -> Iterator[tuple[str, Path]]:
    """Our modules by name, apart from what is no room."""
    for package in ("streaming", "videos"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if room_of(name) not in NOT_ROOMS:
                yield name, path


def test_imports_run_one_way() -> None:
    found = [
        fault
        for name, path in modules()
        for fault in faults(
            name, imported_modules(path.read_text(), module=name, is_package=path.name == "__init__.py")
        )
    ]
    assert found == []


def test_every_room_has_a_row() -> None:
    assert {room_of(name) for name, _ in modules()} <= set(ROW_OF)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("videos.conf", "from videos import models"),
        ("videos.models", "import videos.counters"),
        ("videos.models", "from .ledger import apply"),
        ("videos.ledger.sql", "from videos.counters import Claim"),
        ("videos.ledger.sql", "from ..services import set_like"),
        ("videos.counters", "from videos.ledger import sql"),
        ("videos.counters", "from videos.models import Video"),
        ("videos.services", "from videos import flush"),
        ("videos.services", "import redis.exceptions"),
        ("videos.flush", "def f():\n    from django_redis import get_redis_connection"),
        ("videos.serializers", "from videos import views"),
        ("videos.views", "from videos import counters"),
        ("videos.views", "from videos.ledger import set_like"),
        ("videos.signals", "from videos.urls import urlpatterns"),
        ("streaming.urls", "from streaming import schedule"),
    ],
)
def test_an_arrow_that_runs_up_is_found(module: str, source: str) -> None:
    assert faults(module, imported_modules(source, module=module)) != []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("videos.ledger.sql", "from videos.ledger import rows"),
        ("videos.counters", "import redis"),
        ("videos.views", "from videos import services, serializers"),
        ("videos.flush", "from videos import counters, ledger"),
        ("streaming.urls", "from videos.urls import urlpatterns"),
    ],
)
def test_an_arrow_that_runs_down_is_fine(module: str, source: str) -> None:
    assert faults(module, imported_modules(source, module=module)) == []
