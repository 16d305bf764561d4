"""The OpenAPI schema: valid, without a warning, and true to the contract."""

import io
import re
from typing import Any

import pytest
import yaml
from django.core.management import call_command
from django.test import Client

from servers import free_port, run_manage

pytestmark = [pytest.mark.once, pytest.mark.django_db]

CONTRACT = {
    "/api/videos/": {"get", "post"},
    "/api/videos/{video}/": {"get", "patch", "delete"},
    "/api/videos/counts/": {"get"},
    "/api/videos/{video}/like/": {"get", "put", "post", "delete"},
    "/api/videos/{video}/dislike/": {"put", "post", "delete"},
    "/api/videos/{video}/likes/": {"get"},
    "/api/me/likes/": {"get"},
    "/api/videos/{video}/view/": {"post"},
    "/api/videos/{video}/stats/": {"get"},
    "/api/me/stats/": {"get"},
    "/api/stats/": {"get"},
    "/api/trending/": {"get"},
    "/api/views/": {"post"},
    "/api/token/": {"post"},
    "/api/token/refresh/": {"post"},
}


@pytest.fixture(scope="module")
def schema() -> Any:
    out = io.StringIO()
    call_command("spectacular", "--fail-on-warn", "--validate", stdout=out)
    return yaml.safe_load(out.getvalue())


def test_the_contract_is_all_there(schema: Any) -> None:
    described = {path: {method for method in item if method != "parameters"} for path, item in schema["paths"].items()}
    assert {path: described.get(path, set()) & methods for path, methods in CONTRACT.items()} == CONTRACT


def test_every_call_says_what_it_is_and_how_it_fails(schema: Any) -> None:
    for path, item in schema["paths"].items():
        for method, call in item.items():
            assert call["summary"], (path, method)
            assert "503" in call["responses"], (path, method)


def test_public_calls_need_no_token(schema: Any) -> None:
    public = {
        call["operationId"]
        for item in schema["paths"].values()
        for call in item.values()
        if {} in call.get("security", [{}])
    }
    assert {"videos_list", "videos_retrieve", "view", "likers_list", "videos_counts", "token"} <= public
    assert {"video_stats", "trending_list"} <= public
    assert not {"like", "unlike", "views", "my_likes_list", "videos_create", "my_stats", "site_stats"} & public


def test_a_video_is_described_as_it_is_answered(schema: Any) -> None:
    properties = schema["components"]["schemas"]["Video"]["properties"]
    assert list(properties) == [
        *("id", "title", "description", "url", "duration", "owner", "created_at"),
        *("like_count", "view_count", "watch_seconds", "dislike_count", "liked", "rating"),
    ]
    assert properties["liked"]["nullable"] is True


def test_texts_and_cursors_that_are_refused_are_told_of(schema: Any) -> None:
    shapes = schema["components"]["schemas"]
    some, any_text = (re.compile(shapes["Token"]["properties"][name]["pattern"]) for name in ("username", "password"))
    assert [bool(some.search(text)) for text in ("a", " a\n", " \n", "", "a\0")] == [True, True, False, False, False]
    assert [bool(any_text.search(text)) for text in ("a", " ", "a\0")] == [True, True, False]
    assert {shapes[name]["properties"]["refresh"]["pattern"] for name in ("Refresh", "Revoke")} == {some.pattern}
    assert shapes["Video"]["properties"]["title"]["pattern"] == some.pattern
    cursors = {
        parameter["schema"].get("format")
        for item in schema["paths"].values()
        for parameter in item.get("get", {}).get("parameters", ())
        if parameter["name"] == "cursor"
    }
    assert cursors == {"cursor"}


def test_nothing_speaks_of_our_insides(schema: Any) -> None:
    text = str(schema)
    assert not [word for word in ("services.", "serializer", "context") if word in text]


def test_schema_and_page_are_served() -> None:
    served = Client().get("/api/schema/")
    assert (served.status_code, yaml.safe_load(served.content)["openapi"]) == (200, "3.0.3")
    page = Client().get("/api/docs/")
    assert page.status_code == 200
    assert b'src="/api/docs/?script="' in page.content
    assert b"/api/schema/" in Client().get("/api/docs/?script=").content


def test_schema_is_served_while_the_cache_is_away(service_env: dict[str, str]) -> None:
    read = (
        "from django.test import Client; print(Client().get('/api/schema/', headers={'host': 'localhost'}).status_code)"
    )
    away = {"CACHE_URL": f"redis://127.0.0.1:{free_port()}/0"}
    done = run_manage("shell", "--verbosity", "0", "--command", read, env=service_env | away)
    assert (done.stdout, done.returncode) == ("200\n", 0), done.stderr


@pytest.mark.parametrize("method", ["options", "post", "delete"])
@pytest.mark.parametrize("path", ["/api/schema/", "/api/docs/"])
def test_schema_and_page_are_for_reading_only(path: str, method: str) -> None:
    response = Client(raise_request_exception=False).generic(method.upper(), path)
    assert (response.status_code, response.headers["Allow"]) == (405, "GET, HEAD")


def test_a_call_that_answers_csv_is_described_as_json() -> None:
    response = Client(raise_request_exception=False).options("/api/videos/1/stats/?format=csv")
    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/json")
