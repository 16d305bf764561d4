"""The service's own settings without throttles and the caps per address: all load comes from one address.

BENCH_SETTINGS: further settings as JSON, for a layer that needs others.
"""

import json
import os

from streaming.settings import *  # noqa: F403

VIDEOS_THROTTLE_RATES = dict.fromkeys(("token", "like", "view", "write", "search"))
VIDEOS_VIEW_ADDRESS_LIMIT = VIDEOS_ADDRESS_VIEWS = 0
globals().update(json.loads(os.environ.get("BENCH_SETTINGS", "{}")))
