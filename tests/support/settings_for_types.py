"""What the type checker reads as Django's settings: the service's own, with an environment that asks for no server."""

import os

os.environ |= {
    "STREAMING_EMBEDDED": "1",
    "STREAMING_ENV_FILE": os.devnull,
    "SECRET_KEY": "only-for-types",
    "DATABASE_URL": "sqlite:///:memory:",
    "REDIS_URL": "redis://127.0.0.1:1/0",
}

from streaming.settings import *  # noqa: F403
