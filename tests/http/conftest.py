"""Who calls, and how. Imports stand inside: this file is read before Django is set up."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import unavailable
from tests.support.factories import allow, make_user, make_videos

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from playwright.sync_api import Browser, Playwright

    from videos.models import Video


@pytest.fixture
def staff() -> User:
    """A member of the staff who may edit and delete videos, and send views of others."""
    return allow(make_user("staff", is_staff=True), "change_video", "delete_video", "send_views")


@pytest.fixture
def video_id() -> int:
    """The id of another video."""
    return make_videos(1)[0]


@pytest.fixture
def deleted_before_it_is_saved(video: Video, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each video that is saved has been deleted just before."""
    kind, save = type(video), type(video).save

    def delete_and_save(self: Video, **options: Any) -> None:
        kind.objects.filter(pk=self.pk).delete()
        save(self, **options)

    monkeypatch.setattr(kind, "save", delete_and_save)


@pytest.fixture(scope="session")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    """Debian's Chromium, without a window. A headless browser is a bot by its own user agent, so it has another one."""
    from playwright.sync_api import expect

    from tests.support.doors import BROWSER

    path = shutil.which("chromium")
    if path is None:
        unavailable("chromium is not installed (Debian: apt install chromium)")
    # Playwright has an event loop run in this thread, where Django would then refuse each query.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    expect.set_options(timeout=20_000)
    options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
    browser = playwright.chromium.launch(executable_path=path, args=[*options, f"--user-agent={BROWSER}"])
    yield browser
    browser.close()


@pytest.fixture
def call() -> Callable[..., Any]:
    """`call("PUT", "/api/…", user=…, body=…)`: one request through Django, whose errors are answers."""
    from django.test import Client

    from tests.support.doors import BROWSER, token_of

    client = Client(raise_request_exception=False, headers={"user-agent": BROWSER})

    def send(method: str, path: str, *, user: User | None = None, body: Any = None, **headers: str) -> Any:
        if user is not None:
            headers["authorization"] = token_of(user)
        data = body if isinstance(body, bytes | str) else "" if body is None else json.dumps(body)
        return client.generic(method, path, data, content_type="application/json", headers=headers)

    return send
