"""What production logs: 500s, refusals and failed sign-ins leave a line, on both ways, and passwords stand nowhere."""

import http.client
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import connection
from django.test import RequestFactory
from django.views.debug import get_exception_reporter_class

from servers import RedisServer, WebServer, wait_until
from tests.conftest import with_counters
from tests.support.factories import make_videos
from videos import counters
from videos.api.reports import without_passwords

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]

SECRET = "hunter2-nobody-may-see"


@pytest.mark.parametrize("accept", ["application/json", "application/json;q=0.9"], ids=["express", "django"])
def test_faults_and_refusals_leave_a_line_in_production(web_server: Callable[..., WebServer], accept: str) -> None:
    good, bad = make_videos(2)
    with connection.cursor() as cursor:  # a row that no code of the service can read: a bug to it
        cursor.execute("UPDATE videos_video SET created_at = 'nonsense' WHERE id = %s", [bad])
    server = web_server(DEBUG="0")

    def send(method: str, path: str, **headers: str) -> int:
        peer = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        peer.request(method, path, None if method == "GET" else "{}", headers | {"Accept": accept})
        status = peer.getresponse().status
        peer.close()
        return status

    sent = [
        (500, "Internal Server Error: {}", "GET", f"/api/videos/{bad}/", {}),
        (404, "Not Found: {}", "GET", "/api/videos/987654321/", {}),
        (401, "Unauthorized: {}", "PUT", f"/api/videos/{good}/like/", {}),
        (401, "Unauthorized: {}", "PUT", f"/api/videos/{good}/like/", {"Authorization": "Bearer x"}),
        (403, "Forbidden: {}", "POST", f"/api/videos/{good}/view/", {"Sec-Fetch-Site": "cross-site"}),
        (400, "Bad Request: {}", "GET", "/api/videos/counts/", {}),
    ]
    assert [send(method, path, **headers) for _, _, method, path, headers in sent] == [status for status, *_ in sent]
    for status, line, _, path, _ in sent:
        level = "ERROR" if status == 500 else "WARNING"
        wait_for_line(server, f"{level} django.request: {line.format(path)}")
    assert server.log.read_text().count("Traceback") == 1


def test_a_failed_sign_in_and_a_forbidden_host_leave_a_line(web_server: Callable[..., WebServer]) -> None:
    server = web_server(DEBUG="0")
    peer = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    body = json.dumps({"username": "boss", "password": SECRET})
    peer.request("POST", "/api/token/", body, {"Content-Type": "application/json"})
    assert peer.getresponse().read()
    peer.request("GET", "/api/videos/", headers={"Host": "evil.example"})
    assert peer.getresponse().status == 400
    peer.close()
    wait_for_line(server, "WARNING django.security.videos: Sign-in to 'boss' from 127.0.0.1 failed")
    wait_for_line(server, "ERROR django.security.DisallowedHost: Invalid HTTP_HOST header: 'evil.example'")
    assert SECRET not in server.log.read_text()


def wait_for_line(server: WebServer, line: str) -> None:
    wait_until(lambda: line in server.log.read_text(), what=line)


URLS = [
    f"redis://:{SECRET}@cache.example:6379/0",
    f"rediss://app:{SECRET}@cache.example/1?ssl_cert_reqs=required",
    f"mysql://app:{SECRET}@db.example:3306/streaming",
    f"redis://{SECRET}@cache.example",
]


@pytest.mark.parametrize("url", URLS)
def test_no_page_about_an_error_shows_a_password(url: str, settings: Any) -> None:
    settings.CACHES = {"counters": {"LOCATION": [url], "OPTIONS": {"nested": (url,)}}}
    settings.VIDEOS_THROTTLE_STORAGE = url
    settings.DEBUG = True

    def reach(location: str, urls: Any) -> None:
        raise RuntimeError(f"cannot reach {location}")

    with pytest.raises(RuntimeError) as error:
        reach(url, {"urls": [url], "password": SECRET, "passwd": SECRET})
    request = RequestFactory().get("/", REDIS_URL=url, DATABASE_URL=url)
    kind: Any = get_exception_reporter_class(request)
    reporter = kind(request, error.type, error.value, error.tb)
    for text in (reporter.get_traceback_html(), reporter.get_traceback_text()):
        assert "cannot reach" in text
        assert SECRET not in text.replace("SECRET", "")


@pytest.mark.parametrize("url", URLS)
def test_the_host_stays_readable(url: str) -> None:
    hidden = without_passwords(f"at {url}, again {url}.")
    assert SECRET not in hidden
    assert hidden.count("example") == 2


def test_no_check_and_no_error_of_redis_shows_a_password(
    private_redis: RedisServer, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with_counters(settings, LOCATION=f"redis://app:{SECRET}@127.0.0.1:{private_redis.port}/0")
    settings.VIDEOS_THROTTLE_STORAGE = f"nowhere://app:{SECRET}@host"
    said = [str(message) for message in run_checks(include_deployment_checks=True, databases=["default"])]
    assert any("videos.E004" in message for message in said)
    with pytest.raises(counters.CountersUnavailable) as error:
        counters.lookup([1], None)
    assert SECRET not in "".join([*said, str(error.value), repr(error.value.__cause__), caplog.text])
