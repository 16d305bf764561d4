"""The service's own settings without throttles and the cap per address: a benchmark has one address."""

from streaming.settings import *  # noqa: F403

VIDEOS_THROTTLE_RATES = dict.fromkeys(("token", "like", "view", "write"))
VIDEOS_VIEW_ADDRESS_LIMIT = 0
