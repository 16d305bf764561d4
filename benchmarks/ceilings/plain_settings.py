"""Settings of the plain Django views: what `startproject` writes, its middleware included."""

from benchmarks.startproject import *  # noqa: F403

ROOT_URLCONF = "benchmarks.ceilings.plain"
