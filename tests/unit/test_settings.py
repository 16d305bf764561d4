"""What `streaming/settings.py` makes of the environment."""

import os
import runpy
from pathlib import Path
from traceback import format_exception_only
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

import pytest
from django.core.exceptions import ImproperlyConfigured
from redis.connection import parse_url

SETTINGS = Path(__file__).resolve().parent.parent.parent / "streaming" / "settings.py"
REQUIRED = {
    "SECRET_KEY": "x" * 50,
    "DATABASE_URL": "mysql://a@nowhere/b",
    "REDIS_URL": "redis://nowhere/0",
    "ALLOWED_HOSTS": "videos.example",
}
pytestmark = pytest.mark.once


def read(**environment: str) -> dict[str, Any]:
    """The settings under an environment that holds nothing else."""
    values = {"STREAMING_ENV_FILE": os.devnull} | REQUIRED | environment
    with patch.dict(os.environ, values, clear=True):
        return runpy.run_path(str(SETTINGS))


@pytest.mark.parametrize("value", ["$PATH", r"\$a$b", "#a=b'\"", '"quoted"', "ä"])
def test_a_secret_is_taken_as_it_stands(value: str) -> None:
    assert read(SECRET_KEY=value)["SECRET_KEY"] == value


@pytest.mark.parametrize("value", ["10 minutes", "1,5", "sixty", "0x10"])
def test_what_is_no_number_is_refused_by_name(value: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"TOKEN_MINUTES must be a number, not '{value}'"):
        read(TOKEN_MINUTES=value)


def test_an_empty_variable_is_as_good_as_none() -> None:
    names = ("TOKEN_MINUTES", "CACHE_URL", "DEBUG", "THROTTLE_STORAGE_URL", "LOG_LEVEL", "SECURE_SSL_REDIRECT")
    kept = ("VIDEOS_TOKEN_MINUTES", "CACHES", "DEBUG", "VIDEOS_THROTTLE_STORAGE", "LOGGING", "SECURE_SSL_REDIRECT")
    empty, unset = read(**dict.fromkeys(names, "")), read()
    assert [empty[name] for name in kept] == [unset[name] for name in kept]


def test_numbers_flags_and_lists_are_read() -> None:
    settings = read(
        REDIS_TIMEOUT_SECONDS="1e-1",
        DEBUG=" Yes ",
        SECURE_SSL_REDIRECT="off",
        ALLOWED_HOSTS="a.example, b.example, ",
        SECRET_KEY_FALLBACKS="$old, ,older, ",
    )
    assert settings["COUNTERS_TIMEOUT_SECONDS"] == 0.1
    assert (settings["DEBUG"], settings["SECURE_SSL_REDIRECT"]) == (True, False)
    assert settings["ALLOWED_HOSTS"] == ["a.example", "b.example"]
    assert settings["SECRET_KEY_FALLBACKS"] == ["$old", "older"]


def test_cors_is_installed_only_where_origins_are_named() -> None:
    on, off = read(CORS_ALLOWED_ORIGINS="https://a.example, https://b.example"), read()
    assert on["CORS_ALLOWED_ORIGINS"] == ["https://a.example", "https://b.example"]
    assert on["MIDDLEWARE"] == ["corsheaders.middleware.CorsMiddleware", *off["MIDDLEWARE"]]
    assert set(on["INSTALLED_APPS"]) - set(off["INSTALLED_APPS"]) == {"corsheaders"}


def test_options_and_signs_of_a_mysql_url_are_kept() -> None:
    url = "mysql://u%40x:p%2F%23%3A+$@h.example:3307/some%2Bvideos?ssl_mode=VERIFY_IDENTITY&ssl-ca=/a/b.pem&read_timeout=7"
    database = read(DATABASE_URL=url)["DATABASES"]["default"]
    address = [database[name] for name in ("USER", "PASSWORD", "HOST", "PORT", "NAME")]
    assert address == ["u@x", "p/#:+$", "h.example", 3307, "some+videos"]
    options = database["OPTIONS"]
    assert (options["ssl_mode"], options["ssl"], options["read_timeout"]) == (
        "VERIFY_IDENTITY", {"ca": "/a/b.pem"}, 7,
    )  # fmt: skip
    assert (options["connect_timeout"], options["charset"]) == (3, "utf8mb4")


def test_an_authority_of_a_mysql_url_is_asked_for_and_an_unknown_mode_refused() -> None:
    options = read(DATABASE_URL="mysql://a@h/b?ssl-ca=/a.pem")["DATABASES"]["default"]["OPTIONS"]
    assert (options["ssl_mode"], options["ssl"]) == ("VERIFY_CA", {"ca": "/a.pem"})
    assert "ssl_mode" not in read()["DATABASES"]["default"]["OPTIONS"]
    with pytest.raises(ImproperlyConfigured, match="ssl_mode in DATABASE_URL must be one of DISABLED"):
        read(DATABASE_URL="mysql://a@h/b?ssl_mode=required")


def test_the_path_of_an_sqlite_url_is_kept() -> None:
    database = read(DATABASE_URL="sqlite:////var/a%20b+c.sqlite3")["DATABASES"]["default"]
    assert (database["ENGINE"], database["NAME"]) == ("django.db.backends.sqlite3", "/var/a b+c.sqlite3")


def test_lines_of_the_named_file_fill_in_what_is_not_set(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text(
        "# made by hand\nexport TOKEN_MINUTES=7\nCSRF_TRUSTED_ORIGINS='https://a.example'\nSECRET_KEY=other\n\n"
    )
    settings = read(STREAMING_ENV_FILE=str(file))
    assert (settings["VIDEOS_TOKEN_MINUTES"], settings["CSRF_TRUSTED_ORIGINS"]) == (7, ["https://a.example"])
    assert settings["SECRET_KEY"] == REQUIRED["SECRET_KEY"]


def test_a_named_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"STREAMING_ENV_FILE names .*none, which does not exist"):
        read(STREAMING_ENV_FILE=str(tmp_path / "none"))


FLAG_NAMES = ("DEBUG", "STREAMING_EMBEDDED", "SECURE_SSL_REDIRECT", "WHITENOISE_USE_FINDERS")


@pytest.mark.parametrize("name", FLAG_NAMES)
def test_a_flag_with_an_unknown_word_is_refused(name: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"{name} must be one of 1, true, .*, not 'maybe'"):
        read(**{name: "maybe"})


@pytest.mark.parametrize(("word", "value"), [("TRUE", True), (" ok ", True), ("No", False), ("f", False), ("0", False)])
def test_a_flag_is_read_in_any_case(word: str, value: bool) -> None:
    assert read(SECURE_SSL_REDIRECT=word)["SECURE_SSL_REDIRECT"] is value


@pytest.mark.parametrize("name", ["TOKEN_MINUTES", "FLUSH_INTERVAL_SECONDS", "SECURE_HSTS_SECONDS"])
@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e999"])
def test_a_number_without_end_is_refused(name: str, value: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"{name} must be a number, not '{value}'"):
        read(**{name: value})


@pytest.mark.parametrize("name", ["FLUSH_INTERVAL_SECONDS", "TRUSTED_PROXY_HOPS", "SECURE_HSTS_SECONDS"])
def test_a_part_of_a_whole_number_is_refused(name: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"{name} must be a whole number, not '1.5'"):
        read(**{name: "1.5"})


@pytest.mark.parametrize(("word", "level"), [("info", "INFO"), ("Warning", "WARNING")])
def test_a_level_is_read_in_any_case(word: str, level: str) -> None:
    assert read(LOG_LEVEL=word)["LOGGING"]["loggers"]["videos"]["level"] == level


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"LOG_LEVEL must be DEBUG, .*, not 'LOUD'"):
        read(LOG_LEVEL="loud")


EVERY_SIGN = "/a#b?c@d:e[f]g%h,i j'k\"l$m\\n&o=p+q;r<s>t{u}v|w^x`y~zäあ😀"


def test_a_password_of_any_characters_is_taken_percent_encoded() -> None:
    sign = quote(EVERY_SIGN, safe="")
    settings = read(DATABASE_URL=f"mysql://{sign}:{sign}@h:3307/d", REDIS_URL=f"redis://{sign}:{sign}@h:6380/1")
    database = settings["DATABASES"]["default"]
    assert [database[name] for name in ("USER", "PASSWORD", "HOST", "PORT", "NAME")] == [
        *(EVERY_SIGN, EVERY_SIGN, "h", 3307, "d")
    ]
    redis = parse_url(  # type: ignore[no-untyped-call]
        settings["CACHES"]["counters"]["LOCATION"]
    )
    assert [redis[name] for name in ("username", "password", "host", "port", "db")] == [
        *(EVERY_SIGN, EVERY_SIGN, "h", 6380, 1)
    ]


@pytest.mark.parametrize("sign", ["/", "#", "?", "[", "x@y/z", "x@y#z", "x@y?z"])
@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_URL", "CACHE_URL", "THROTTLE_STORAGE_URL"])
def test_a_sign_that_ends_the_host_is_refused_without_the_password(name: str, sign: str) -> None:
    scheme = "mysql" if name == "DATABASE_URL" else "redis"
    with pytest.raises(ImproperlyConfigured, match=f"{name} cannot be read. Percent-encode") as raised:
        read(**{name: f"{scheme}://user:123{sign}secret@h/1"})
    assert "secret" not in "".join(format_exception_only(raised.value))
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


@pytest.mark.parametrize(
    "url", ["foo://u:secret@h/d", "u:secret@h/d", "mysql://u:secret@h:port/d", "mysql://u:secret@h"]
)
def test_what_is_no_database_url_is_refused_without_the_password(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL") as raised:
        read(DATABASE_URL=url)
    assert "secret" not in "".join(format_exception_only(raised.value))
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


@pytest.mark.parametrize("url", ["sqlite:///a@b#c", "mysql://u:a@b,c@h/d", "mysql://h/d"])
def test_other_database_urls_are_taken(url: str) -> None:
    assert read(DATABASE_URL=url)["DATABASES"]["default"]["NAME"]


@pytest.mark.parametrize(
    "url", ["redis+sentinel://a:1,b:2/master", "redis+cluster://a:1,b:2", "memcached://a:1,b:2", "process://"]
)
def test_a_throttle_storage_of_several_hosts_is_taken(url: str) -> None:
    assert read(THROTTLE_STORAGE_URL=url)["VIDEOS_THROTTLE_STORAGE"] == url


def test_several_redis_addresses_are_taken() -> None:
    urls = "redis://:a@h1/0,redis://:b@h2/0"
    assert read(REDIS_URL=urls)["CACHES"]["counters"]["LOCATION"] == urls
