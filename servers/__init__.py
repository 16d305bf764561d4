"""Private servers on this machine: of script/server, of the tests and of the benchmarks. No part of the service.

script/server imports them before any package is installed, so they import no package at their top.
"""

from servers.database import MariaDBServer, MySQLServer
from servers.pair import DATABASE_OPTIONS, K6, Servers, private_servers, start
from servers.process import (
    PYTHON,
    ROOT,
    MissingServerError,
    Process,
    StartFailed,
    alive,
    call,
    cpu_seconds,
    end_with_parent,
    free_port,
    listens,
    resident_bytes,
    wait_until,
)
from servers.redis import REDIS_OPTIONS, RedisServer, ValkeyServer
from servers.server import Server
from servers.web import WebServer, granian, run_manage, serve, start_manage

__all__ = [
    "DATABASE_OPTIONS", "K6", "PYTHON", "REDIS_OPTIONS", "ROOT", "MariaDBServer", "MissingServerError", "MySQLServer",
    "Process", "RedisServer", "Server", "Servers", "StartFailed", "ValkeyServer", "WebServer", "alive", "call",
    "cpu_seconds", "end_with_parent", "free_port", "granian", "listens", "private_servers", "resident_bytes",
    "run_manage", "serve", "start", "start_manage", "wait_until",
]  # fmt: skip
