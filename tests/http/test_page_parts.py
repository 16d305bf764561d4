"""What the page is made of: its size, its languages, its film, its session."""

import gettext
import io
import json
import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from servers import ROOT
from tests.support.doors import BROWSER
from videos.api.views.page import LANGUAGES, texts_of

pytestmark = [pytest.mark.once, pytest.mark.django_db]

STATIC = ROOT / "videos" / "static" / "videos"
TEMPLATES = ROOT / "videos" / "templates" / "videos"
LOCALE = ROOT / "videos" / "locale" / "ko" / "LC_MESSAGES"
MOST_BYTES = 20 * 1024  # of scripts and styles together
CSRF = {"x-csrftoken": "a" * 32}


@pytest.fixture
def client() -> Client:
    """A browser that has been on the page, so it has the CSRF cookie."""
    User.objects.create_user("demo", password="demo")
    browser = Client(enforce_csrf_checks=True, headers={"user-agent": BROWSER})
    browser.cookies["csrftoken"] = "a" * 32
    return browser


def sign_in(client: Client, password: str = "demo", headers: dict[str, str] | None = None) -> Any:
    body = {"username": "demo", "password": password}
    return client.post("/api/session/", json.dumps(body), content_type="application/json", headers=headers)


def test_scripts_and_styles_are_small() -> None:
    sizes = {
        path.name: path.stat().st_size
        for path in STATIC.iterdir()
        if path.suffix in {".js", ".css"} and not path.name.startswith("admin")
    }
    assert sum(sizes.values()) <= MOST_BYTES, sizes


def test_each_text_that_a_script_asks_for_is_there_in_each_language() -> None:
    asked = {
        key
        for path in STATIC.glob("*.js")
        for key in re.findall(r"""\btext\(["`]([a-z_.]+)["`]""", path.read_text(encoding="utf-8"))
    }
    assert len(asked) > 10
    for lang in LANGUAGES:
        texts = texts_of(lang)
        assert {key for key in asked if key not in texts and f"{key}.other" not in texts} == set()
        assert all(texts.values())


def test_korean_is_complete_and_compiled() -> None:
    used = {
        text
        for path in (TEMPLATES / f"{name}.html" for name in ("page", "list", "numbers"))
        for _, text in re.findall(r"""{% translate (["'])(.+?)\1 %}""", path.read_text(encoding="utf-8"))
    }
    source = dict(re.findall(r'^msgid "(.+)"\nmsgstr "(.*)"$', (LOCALE / "django.po").read_text("utf-8"), re.MULTILINE))
    compiled = (LOCALE / "django.mo").read_bytes()
    translate = gettext.GNUTranslations(io.BytesIO(compiled)).gettext
    assert used == set(source)
    assert all(source.values())
    assert {text: translate(text) for text in source} == source
    assert int.from_bytes(compiled[8:12], "little") == 1 + len(source)  # the texts in the file, one of them its header


@pytest.mark.parametrize("path", ["/", "/likes/", "/videos/1/"])
def test_the_page_is_kept_by_no_shared_cache_and_has_its_language(client: Client, path: str) -> None:
    response = client.get(path, headers={"accept-language": "ko"})
    assert 'lang="ko"' in response.text
    assert "동영상" in response.text
    assert "private" in response["Cache-Control"]
    assert {"Cookie", "Accept-Language"} <= {name.strip() for name in response["Vary"].split(",")}
    assert 'lang="en"' in client.get(path, headers={"accept-language": "fr"}).text


def test_the_film_is_sent_in_ranges(client: Client, settings: Any) -> None:
    settings.WHITENOISE_USE_FINDERS = True
    response = Client().get("/static/videos/demo.mp4", headers={"range": "bytes=0-99"})
    assert response.status_code == 206
    assert response["Content-Range"].startswith("bytes 0-99/")
    assert b"ftyp" in b"".join(response.streaming_content)  # type: ignore[attr-defined]
    assert (STATIC / "demo.mp4").stat().st_size < 200_000


def test_a_session_begins_and_ends(client: Client) -> None:
    begun = sign_in(client, headers=CSRF)
    assert (begun.status_code, begun.json(), begun["Cache-Control"]) == (200, {"username": "demo"}, "no-store")
    assert begun.cookies["sessionid"]["httponly"]
    assert 'data-user="demo"' in client.get("/").text
    token = client.cookies["csrftoken"].value
    assert client.delete("/api/session/").status_code == 403
    assert client.delete("/api/session/", headers={"x-csrftoken": token}).status_code == 204
    assert 'data-user=""' in client.get("/").text


def test_no_other_site_signs_a_visitor_in(client: Client) -> None:
    assert sign_in(client).status_code == 403
    assert "sessionid" not in client.cookies


def test_a_wrong_password_begins_no_session(client: Client) -> None:
    wrong = sign_in(client, "wrong", CSRF)
    assert (wrong.status_code, "sessionid" in client.cookies) == (401, False)
