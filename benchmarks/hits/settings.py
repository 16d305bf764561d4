"""Settings of the project that counts views with django-hitcount."""

from benchmarks.startproject import *  # noqa: F403
from benchmarks.startproject import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "hitcount", "benchmarks.hits"]
ROOT_URLCONF = "benchmarks.hits.urls"
HITCOUNT_KEEP_HIT_ACTIVE = {"minutes": 30}
