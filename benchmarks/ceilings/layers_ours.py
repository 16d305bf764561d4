"""Django with the service's own middleware."""

from benchmarks.ceilings.layers_settings import *  # noqa: F403
from streaming.settings import MIDDLEWARE, STATIC_ROOT, STATIC_URL  # noqa: F401
