"""Refuses a connection to MySQL or MariaDB that is not encrypted where OPTIONS ask for TLS.

MariaDB's client library (Debian's mysqlclient, mysqlclient-static) connects in clear to a server without TLS unless
`ssl_mode` is VERIFY_CA or VERIFY_IDENTITY: `REQUIRED` and a certificate authority alone are no more than a wish to it.
"""

from typing import Any, Final

from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

CLIENT_SSL: Final = 1 << 11  # of the protocol's capabilities: client and server take TLS if both have it
TLS_FAILED: Final = 2026  # the drivers' number of a failed TLS handshake
ENCRYPTED_MODES: Final = frozenset({"REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY"})


class DatabaseInClear(OperationalError):
    """OPTIONS ask for TLS, and the database server does not offer it."""

    def __init__(self) -> None:
        super().__init__(TLS_FAILED, "OPTIONS ask for TLS, and the database server does not offer it.")


def refuse_clear(*, connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Close a new connection that should be encrypted and is not. Raises DatabaseInClear."""
    if connection.vendor != "mysql":
        return
    options = connection.settings_dict["OPTIONS"]
    mode = options.get("ssl_mode")
    wanted = mode in ENCRYPTED_MODES or (mode is None and bool(options.get("ssl")))
    raw: Any = connection.connection
    if wanted and not raw.client_flag & raw.server_capabilities & CLIENT_SSL:
        connection.close()
        raise DatabaseInClear
