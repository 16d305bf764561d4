"""How much of its memory a Redis of a test's own uses."""

from servers import RedisServer

MIB = 2**20
BALLAST_BYTES = 8 * MIB  # beside which the buffers of connections are small


def used(server: RedisServer) -> int:
    """The bytes that it uses."""
    return int(server.client().info("memory")["used_memory"])


def set_share(server: RedisServer, share: float, *, more: int = 0) -> None:
    """Let it have so much memory that it uses this share of it, once it uses `more` bytes than now."""
    client = server.client()
    client.setrange("ballast", BALLAST_BYTES, "x")
    client.config_set("maxmemory", int((used(server) + more) / share))
