"""Django without any middleware."""

from benchmarks.ceilings.layers_settings import *  # noqa: F403

MIDDLEWARE: list[str] = []
