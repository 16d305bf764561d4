"""Who calls, and what is liked. Imports stand inside: this file is read before Django is set up."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from videos.models import Video


def _made(username: str, **values: Any) -> User:
    from django.contrib.auth.models import User

    return User.objects.create(username=username, **values)


@pytest.fixture
def owner() -> User:
    """Who owns `video`."""
    return _made("owner")


@pytest.fixture
def user() -> User:
    """Who calls."""
    return _made("user")


@pytest.fixture
def staff() -> User:
    """A member of the staff."""
    return _made("staff", is_staff=True)


@pytest.fixture
def video(owner: User) -> Video:
    """A video."""
    from videos.models import Video

    return Video.objects.create(title="one", url="https://example.com/1.mp4", owner=owner, duration=100)


@pytest.fixture
def video_id() -> int:
    """The id of another video."""
    from tests.support.load import make_videos

    return make_videos(1)[0]


@pytest.fixture
def call() -> Callable[..., Any]:
    """`call("PUT", "/api/…", user=…, body=…)`: one request through Django, whose errors are answers."""
    from django.test import Client

    from tests.support.doors import BROWSER
    from videos.api.tokens import RefreshToken

    client = Client(raise_request_exception=False, headers={"user-agent": BROWSER})

    def send(method: str, path: str, *, user: User | None = None, body: Any = None, **headers: str) -> Any:
        if user is not None:
            headers["authorization"] = f"Bearer {RefreshToken.of(user).access_token}"
        data = body if isinstance(body, bytes | str) else "" if body is None else json.dumps(body)
        return client.generic(method, path, data, content_type="application/json", headers=headers)

    return send
