"""TLS to Redis and to the database, by URL: real servers with right, wrong and no certificates."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from django.core.cache import caches
from django.core.checks import run_checks
from django.db import OperationalError, connection, connections
from limits import parse

from servers import MariaDBServer, MySQLServer, RedisServer, free_port
from servers.database import SMALL
from streaming.settings import _database
from tests.support.doors import ask, bearer, like_path
from tests.support.factories import make_user, make_videos
from tests.support.faults import end_pauses
from videos import counters
from videos.api.throttling import Hit, limiter_on
from videos.flush import run_flush

pytestmark = [pytest.mark.django_db(transaction=True)]

SECRET = "hunter2-nobody-may-see"
HERE, ELSEWHERE = "127.0.0.1", "elsewhere.example"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`ca.pem` signed the certificates `127.0.0.1.pem` and `elsewhere.example.pem`; `other.pem` signed none."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(folder / "other.pem"))
    for name in (HERE, ELSEWHERE):
        certificate = authority.issue_cert(name)
        certificate.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
        certificate.private_key_pem.write_to_path(str(folder / f"{name}.key"))
    return folder


@pytest.fixture
def tls_redis(run_server: Callable[..., None], tmp_path: Path, files: Path) -> Callable[[str], tuple[RedisServer, int]]:
    """`tls_redis(name)` starts a Redis with the certificate of a name; its port with TLS is the second value."""

    def start(name: str) -> tuple[RedisServer, int]:
        port = free_port()
        options = {"port": port, "cert-file": files / f"{name}.pem", "key-file": files / f"{name}.key"}
        arguments = [str(part) for key, value in options.items() for part in (f"--tls-{key}", value)]
        server = RedisServer(tmp_path / name, *arguments, "--tls-auth-clients", "no", password=SECRET)
        run_server(server)
        return server, port

    return start


def use(settings: Any, url: str) -> None:
    """Let counters, cache and throttles use a Redis."""
    own = settings.CACHES["counters"]
    cache = own | {"LOCATION": url.replace("/0", "/1"), "OPTIONS": {"SOCKET_TIMEOUT": 5}}
    settings.CACHES = {"counters": own | {"LOCATION": url}, "default": cache}
    settings.VIDEOS_THROTTLE_STORAGE = url.replace("/0", "/2")
    end_pauses()


@pytest.mark.only("mariadb")
def test_counters_cache_and_throttles_use_tls(
    tls_redis: Callable[[str], tuple[RedisServer, int]], files: Path, settings: Any
) -> None:
    server, port = tls_redis(HERE)
    use(settings, f"rediss://:{SECRET}@{HERE}:{port}/0?ssl_ca_certs={files / 'ca.pem'}")
    (video,) = make_videos(1)
    liked = ask("PUT", like_path(video), **bearer(make_user()))
    assert (liked.status, liked.headers.get("X-Counts")) == (200, None)
    assert run_flush().sums["likes_added"] == 1
    caches["default"].set("a", 1)
    hit = Hit(parse("2/minute"), "like", "1")
    limiter = limiter_on(settings.VIDEOS_THROTTLE_STORAGE)
    assert [limiter.wait_seconds([hit]) is None for _ in range(3)] == [True, True, False]
    assert [server.client(number).dbsize() > 0 for number in range(3)] == [True, True, True]


@pytest.mark.only("mariadb")
@pytest.mark.parametrize(
    ("certificate", "scheme", "password", "authority"),
    [
        (HERE, "rediss", SECRET, "other.pem"),
        (HERE, "rediss", SECRET, ""),
        (HERE, "rediss", f"{SECRET}-2", "ca.pem"),
        (HERE, "redis", SECRET, ""),
        (ELSEWHERE, "rediss", SECRET, "ca.pem"),
    ],
)
def test_a_redis_that_is_not_the_right_one_is_refused(
    tls_redis: Callable[[str], tuple[RedisServer, int]], files: Path, settings: Any, caplog: pytest.LogCaptureFixture,
    *, certificate: str, scheme: str, password: str, authority: str,
) -> None:  # fmt: skip
    server, port = tls_redis(certificate)
    trusted = f"?ssl_ca_certs={files / authority}" if authority else ""
    use(settings, f"{scheme}://:{password}@{HERE}:{port}/0{trusted}")
    with pytest.raises(counters.CountersUnavailable) as error:
        counters.lookup([1], None)
    end_pauses()
    settings.CACHES["default"]["OPTIONS"]["IGNORE_EXCEPTIONS"] = False
    with pytest.raises(Exception) as of_cache:  # noqa: PT011  django-redis raises errors of several kinds
        caches["default"].set("a", 1)
    said = [str(message) for message in run_checks(databases=["default"])]
    assert any("videos.W010" in message for message in said)
    chain = [error.value, error.value.__cause__, of_cache.value, of_cache.value.__cause__]
    assert SECRET not in "".join([*said, *map(repr, chain), *map(str, chain), caplog.text])
    assert [server.client(number).dbsize() for number in range(2)] == [0, 0]


@pytest.fixture
def tls_database(private_database: MariaDBServer, files: Path) -> Any:
    """`tls_database(name, query)` connects by URL to a server with the certificate of a name, or with none."""
    server = private_database
    server.query(f"CREATE USER app@'%' IDENTIFIED BY '{SECRET}'")
    server.query("GRANT ALL ON streaming.* TO app@'%'")
    shared = dict(connection.settings_dict)

    def connect(certificate: str | None, query: str) -> str:
        """The cipher of the connection. Raises django.db errors."""
        give(server, files, certificate)
        connections.close_all()
        # To a MySQL without TLS MariaDB's library sends a password in clear, which MySQL refuses: so go without.
        login = "root" if certificate is None and isinstance(server, MySQLServer) else f"app:{SECRET}"
        url = f"mysql://{login}@{HERE}:{server.port}/streaming?{query.format(files=files)}"
        connection.settings_dict |= _database(url) | {"ATOMIC_REQUESTS": False, "TIME_ZONE": None}
        with connection.cursor() as cursor:
            cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
            return str(cursor.fetchone()[1])

    yield connect
    connections.close_all()
    connection.settings_dict |= shared


def give(server: MariaDBServer, files: Path, name: str | None) -> None:
    """Let the server have the certificate of a name, or none."""
    pem, key = files / f"{name}.pem", files / f"{name}.key"
    if isinstance(server, MySQLServer):  # its program takes no options; it has made certificates of its own
        for target, source in (("server-cert", pem), ("server-key", key), ("ca", files / "ca.pem")):
            file = server.data / f"{target}.pem"
            file.write_bytes(source.read_bytes() if name else b"")
        server.query("ALTER INSTANCE RELOAD TLS NO ROLLBACK ON ERROR")
        return
    own = {"ssl_cert": str(pem), "ssl_key": str(key)} if name else {"skip_ssl": "1"}
    if server.options != SMALL | own:
        server.stop()
        server.options = SMALL | own
        server.start()


ENCRYPTED = [
    "ssl_mode=REQUIRED", "ssl-ca={files}/ca.pem", "ssl_mode=VERIFY_CA&ssl-ca={files}/ca.pem",
    "ssl_mode=VERIFY_IDENTITY&ssl-ca={files}/ca.pem",
]  # fmt: skip


def database_test(function: Any) -> Any:
    return pytest.mark.database(pytest.mark.only("mariadb", "mysql")(function))


@database_test
def test_the_database_is_reached_with_tls_where_it_is_asked_for(tls_database: Callable[..., str]) -> None:
    assert [bool(tls_database(HERE, query)) for query in ENCRYPTED] == [True] * len(ENCRYPTED)


@database_test
def test_a_database_with_a_strange_certificate_is_refused(tls_database: Callable[..., str]) -> None:
    for certificate, query in [
        (HERE, "ssl-ca={files}/other.pem"),
        (HERE, "ssl_mode=VERIFY_CA&ssl-ca={files}/other.pem"),
        (HERE, "ssl_mode=VERIFY_IDENTITY&ssl-ca={files}/other.pem"),
        (HERE, "ssl_mode=VERIFY_IDENTITY"),
        (ELSEWHERE, "ssl_mode=VERIFY_IDENTITY&ssl-ca={files}/ca.pem"),
    ]:
        with pytest.raises(OperationalError, match="2026") as error:
            tls_database(certificate, query)
        assert SECRET not in repr(error.value)


@database_test
def test_a_database_without_tls_is_refused_where_tls_is_asked_for(
    tls_database: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    for query in ENCRYPTED[1:]:
        with pytest.raises(OperationalError, match="TLS/SSL error"):  # by the driver, before it sends the password
            tls_database(None, query)
    with pytest.raises(OperationalError, match="OPTIONS ask for TLS"):
        tls_database(None, "ssl_mode=REQUIRED")
    assert connection.connection is None
    assert ask("GET", "/api/videos/").status == 503
    connection.settings_dict["OPTIONS"]["ssl"] = {"ca": ""}
    del connection.settings_dict["OPTIONS"]["ssl_mode"]  # settings by hand: TLS without a mode
    with pytest.raises(OperationalError, match="OPTIONS ask for TLS"):
        connection.ensure_connection()
    said = [str(message) for message in run_checks(databases=["default"])]
    assert any("videos.E032" in message and "OPTIONS ask for TLS" in message for message in said)
    assert SECRET not in "".join([*said, caplog.text])
    assert [tls_database(None, f"ssl_mode={mode}") for mode in ("DISABLED", "PREFERRED")] == ["", ""]
