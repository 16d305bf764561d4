"""System checks: wrong settings and unsafe servers, each with an id and a hint.

Every run of Django's checks looks at the settings. Only `check --database`, `migrate` and `check --deploy` ask the
servers. A server that does not answer is a warning, not an error: nothing must fail to start because of it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from django.core.checks import CheckMessage, Tags, register
from django.db import router

from videos.checks import database, redis, settings
from videos.models import Video

__all__ = ["database", "redis", "settings"]


@register("videos", Tags.database)
def check_servers(databases: Sequence[str] | None = None, **_: Any) -> Iterator[CheckMessage]:
    """Ask the servers, where databases were named."""
    if databases:
        yield from redis.ask_server()
        yield from database.ask_servers(databases)


@register("videos", deploy=True)
def check_servers_for_deployment(databases: Sequence[str] | None = None, **_: Any) -> Iterator[CheckMessage]:
    """Ask the servers before a deployment, unless `check_servers` does."""
    return check_servers(None if databases else [router.db_for_write(Video)])
