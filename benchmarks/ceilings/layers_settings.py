"""What `startproject` writes, with Django REST framework as it comes."""

from benchmarks.startproject import *  # noqa: F403
from benchmarks.startproject import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "rest_framework"]
ROOT_URLCONF = "benchmarks.ceilings.layers"
