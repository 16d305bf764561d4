"""A page of another site cannot make its visitors view; one's own page, allowed ones and apps can."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.doors import ask, view_path

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]

FOREIGN = {"HTTP_SEC_FETCH_SITE": "cross-site", "HTTP_ORIGIN": "https://evil.example"}
BEACON = {"CONTENT_TYPE": "text/plain;charset=UTF-8"}
WAYS = pytest.mark.parametrize("way", [{}, {"HTTP_ACCEPT": "application/json;q=0.9"}], ids=["express", "django"])


def status(video_id: int, **headers: Any) -> int:
    return ask("POST", view_path(video_id), b'{"viewer":"me"}', **headers).status


@WAYS
@pytest.mark.parametrize("kind", [{}, BEACON], ids=["json", "beacon"])
def test_a_page_of_another_site_does_not_count(video_id: int, way: Mapping[str, Any], kind: Mapping[str, Any]) -> None:
    got = ask("POST", view_path(video_id), b'{"viewer":"me"}', **way, **kind, **FOREIGN)
    assert (got.status, got.express) == (403, not way)
    assert status(video_id, **way, **kind, **FOREIGN | {"HTTP_ORIGIN": "null"}) == 403
    assert status(video_id, **way, **kind, HTTP_SEC_FETCH_SITE="cross-site") == 403
    assert ask("GET", f"/api/videos/{video_id}/", **way, **FOREIGN).body["view_count"] == 0


@WAYS
@pytest.mark.parametrize(
    "headers",
    [
        *({"HTTP_SEC_FETCH_SITE": site, "HTTP_ORIGIN": "https://own.example"} for site in ("same-origin", "same-site")),
        {"HTTP_SEC_FETCH_SITE": "none"},  # typed in by the user
        {},  # an app
        {"HTTP_ORIGIN": "capacitor://localhost"},
    ],
)
@pytest.mark.parametrize("kind", [{}, BEACON], ids=["json", "beacon"])
def test_ones_own_pages_and_apps_count(
    video_id: int, way: Mapping[str, Any], headers: Mapping[str, Any], kind: Mapping[str, Any]
) -> None:
    assert status(video_id, **way, **kind, **headers) == 200


@WAYS
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CORS_ALLOWED_ORIGINS", ["https://evil.example"]),
        ("CORS_ALLOWED_ORIGIN_REGEXES", [r"^https://\w+\.example$"]),
        ("CORS_ALLOW_ALL_ORIGINS", True),
    ],
)
def test_an_origin_that_cors_allows_counts(
    video_id: int, way: Mapping[str, Any], settings: Any, name: str, value: Any
) -> None:
    setattr(settings, name, value)
    assert status(video_id, **way, **FOREIGN) == 200
