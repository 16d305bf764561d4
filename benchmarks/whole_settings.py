"""The benchmark's settings with the express lane closed: every request goes through Django and REST framework."""

from benchmarks.settings import *  # noqa: F403

VIDEOS_EXPRESS = False
