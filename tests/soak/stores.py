"""Private servers on copies of a soak's Redis and database, which this process then uses. Needs Django."""

import contextlib
import shutil
import time
from pathlib import Path
from typing import Any, Self

from django.conf import settings
from django.db import connection, connections
from django.test import override_settings

from servers import MariaDBServer, MySQLServer, RedisServer
from servers.process import HOST
from tests.soak.copies import Copy, copy_sqlite
from tests.soak.stack import Stack
from tests.support.faults import end_pauses
from videos.conf import conf
from videos.counters.connection import FRESH_SECONDS
from videos.counters.keys import keys_of
from videos.models import Meeting


class Stores:
    """`set_redis` and `set_database` put a copy in the place of what is there, as a restore does: what runs goes on."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.redis: RedisServer = type(stack.redis)(folder / "redis")
        self.file = folder / "database.sqlite3"
        self.database: MariaDBServer | None = None
        if stack.database is not None:
            self.database = type(stack.database)(folder / "database", stack.database.options)
            if isinstance(self.database, MySQLServer):
                self.database.initialise()  # links the programs; the data folder is copied
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        own: dict[str, Any] = {"NAME": str(self.file)}
        if self.database is not None:
            own = {"NAME": "streaming", "HOST": HOST, "PORT": self.database.port, "USER": self.database.root}
            self._stack.callback(self.database.close)
        self._stack.callback(self.redis.close)
        self._stack.callback(connection.settings_dict.update, dict(connection.settings_dict))
        self._stack.callback(connections.close_all)
        connections.close_all()
        connection.settings_dict |= own
        counters_cache = settings.CACHES["counters"] | {"LOCATION": self.redis.url}
        self._stack.enter_context(override_settings(CACHES=settings.CACHES | {"counters": counters_cache}))
        end_pauses()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def set_redis(self, copy: Copy) -> None:
        """Kill Redis if it runs, and start it on a copy of its append-only file."""
        self.redis.kill()
        shutil.rmtree(self.redis.folder / "appendonlydir", ignore_errors=True)
        shutil.copytree(copy.path, self.redis.folder / "appendonlydir")
        self.redis.start()
        time.sleep(2 * FRESH_SECONDS)  # so that idle connections notice

    def set_database(self, copy: Copy) -> None:
        """Kill the server if it runs, and start it on a copy of its data folder; or copy into the file of SQLite."""
        if self.database is None:
            copy_sqlite(copy.path, self.file)
            return
        self.database.kill()
        shutil.rmtree(self.database.data, ignore_errors=True)
        shutil.copytree(copy.path, self.database.data)
        self.database.start()
        if isinstance(self.database, MySQLServer):  # its program takes no options; a copy needs no sync to disk
            self.database.query("SET GLOBAL innodb_flush_log_at_trx_commit = 2, GLOBAL sync_binlog = 0")
        connections.close_all()

    def keep_run(self) -> None:
        """Let both take this Redis for the one that was copied: it goes on when the database is set back."""
        client = self.redis.client()
        info: Any = client.info("server")
        for shard in range(conf.SHARDS):
            client.hset(keys_of(shard).batch, "met", info["run_id"])
        Meeting.objects.update(run=info["run_id"])

    def claimed(self, shard: int) -> list[tuple[bytes, bytes]]:
        """The fields of the open batch of a shard."""
        fields: Any = self.redis.client().hgetall(keys_of(shard).claimed)
        return [(name.encode(), value.encode()) for name, value in fields.items()]

    def lasts(self) -> dict[int, int]:
        """The newest batch of each shard that Redis knows."""
        client = self.redis.client()
        return {shard: int(str(client.hget(keys_of(shard).batch, "last") or 0)) for shard in range(conf.SHARDS)}
