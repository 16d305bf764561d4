"""Who calls, and how. Imports stand inside: this file is read before Django is set up."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.factories import allow, make_user, make_videos

if TYPE_CHECKING:
    from django.contrib.auth.models import User

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
