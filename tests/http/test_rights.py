"""Rights end when they are taken away, not with the token; permissions are Django's."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from drf_spectacular.views import SpectacularAPIView

from servers import ROOT
from tests.support.doors import Call, Got, ask, bearer, like_path, token_of, video_path
from tests.support.factories import allow, make_admin, make_user
from videos.api.tokens import RefreshToken
from videos.models import Video
from videos.urls import urlpatterns

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

CALLS = [
    ("PATCH", "/api/videos/{}/", b'{"title":"new"}'),
    ("DELETE", "/api/videos/{}/", b""),
    ("POST", "/api/views/", b'{"events":[]}'),
]
DONE = [200, 204, 200]


def statuses(video: Video, token: str) -> list[int]:
    """What each call that needs a right is answered; the video is there again before each."""
    found = []
    for method, path, body in CALLS:
        video.save(force_insert=not Video.objects.filter(pk=video.pk).exists())
        found.append(ask(method, path.format(video.pk), body, HTTP_AUTHORIZATION=token).status)
    return found


@pytest.mark.parametrize(
    ("lose", "status"),
    [
        (lambda user: user.delete(), 401),
        (lambda user: User.objects.filter(pk=user.pk).update(is_active=False), 401),
        (lambda user: user.user_permissions.clear(), 403),
    ],
    ids=["deleted", "deactivated", "demoted"],
)
def test_who_lost_the_rights_has_none_although_the_token_is_valid(
    video: Video, staff: User, lose: Callable[[User], Any], status: int
) -> None:
    token = token_of(staff)
    assert statuses(video, token) == DONE
    lose(staff)
    assert statuses(video, token) == [status] * 3


def test_staff_without_permissions_have_no_rights(video: Video) -> None:
    token = token_of(make_user("helper", is_staff=True))
    assert statuses(video, token) == [403, 403, 403]


def test_permissions_of_a_group_and_of_superusers_count(video: Video, user: User) -> None:
    group = Group.objects.create(name="editors")
    group.permissions.add(*Permission.objects.filter(codename__in=("change_video", "delete_video")))
    user.groups.add(group)
    assert statuses(video, token_of(user)) == [200, 204, 403]
    assert statuses(video, token_of(make_admin())) == DONE


def test_each_permission_is_for_its_own_call(video: Video) -> None:
    for place, codename in enumerate(("change_video", "delete_video", "send_views")):
        holder = allow(make_user(codename), codename)
        assert statuses(video, token_of(holder)) == [DONE[i] if i == place else 403 for i in range(3)]


def test_a_deactivated_owner_edits_no_video_and_adds_none(video: Video, owner: User) -> None:
    token = bearer(owner)
    assert ask("PATCH", video_path(video.pk), b'{"title":"x"}', **token).status == 200
    User.objects.update(is_active=False)
    answers = [
        ask("PATCH", video_path(video.pk), b'{"title":"y"}', **token),
        ask("DELETE", video_path(video.pk), **token),
        ask("POST", "/api/videos/", b'{"title":"t","url":"https://example.com/1"}', **token),
    ]
    assert [answer.status for answer in answers] == [401, 401, 401]


def test_likes_and_views_trust_the_token_until_it_ends(call: Call, video: Video, user: User) -> None:
    """docs/security.md says so: they read no row."""
    token = bearer(user)
    User.objects.update(is_active=False)
    assert ask("PUT", like_path(video.pk), **token).status == 200


def test_a_session_has_the_rights_of_its_user(video: Video, staff: User) -> None:
    client = Client()
    client.force_login(staff)
    assert client.patch(video_path(video.pk), b"{}", content_type="application/json").status_code == 200
    staff.user_permissions.clear()
    assert client.patch(video_path(video.pk), b"{}", content_type="application/json").status_code == 403


PAGE = (ROOT / "docs" / "security.md").read_text()
ROWS = [
    [cell.strip().strip("`") for cell in line.strip("|").split("|")]
    for line in re.findall(r"^\| .* \|$", PAGE.partition("## Who may do what")[2].partition("\n## ")[0], re.MULTILINE)
]
COLUMNS = ROWS[0][1:-1]
CELLS = [
    pytest.param((call, permission, who, int(status)), id=f"{call} {who}")
    for call, *statuses, permission in ROWS[1:]
    for who, status in zip(COLUMNS, statuses, strict=True)
]
PASSWORD = "a secret of length"


class Caller:
    """One of the columns, with its token, its session, and what it sends."""

    def __init__(self, who: str, permission: str, video: Video) -> None:
        self.user: User | None = None
        self.refresh = "none"
        self.headers: dict[str, Any] = {}
        if who == "anonymous":
            return
        owns = who in {"owner", "deactivated"}
        self.user = video.owner if owns else make_user(who, is_staff=who == "staff")
        self.user.set_password(PASSWORD)
        self.user.save()
        if who == "holder" and permission:
            allow(self.user, permission.removeprefix("videos."))
        self.refresh = str(RefreshToken.of(self.user))
        self.headers = bearer(self.user)
        if who == "deactivated":
            User.objects.filter(pk=self.user.pk).update(is_active=False)

    def send(self, call: str, video: Video) -> Got:
        method, path = call.split()
        bodies: dict[str, Any] = {
            "POST /api/videos/": {"title": "t", "url": "https://example.com/1"},
            "PATCH /api/videos/{id}/": {"title": "new"},
            "POST /api/views/": {"events": []},
            "POST /api/session/": {"username": str(self.user or "nobody"), "password": PASSWORD},
            "POST /api/token/": {"username": str(self.user or "nobody"), "password": PASSWORD},
            "POST /api/token/refresh/": {"refresh": self.refresh},
            "POST /api/token/revoke/": {"refresh": self.refresh},
        }
        headers = dict(self.headers)
        if path == "/api/videos/counts/":
            headers["QUERY_STRING"] = f"ids={video.pk}"
        if path == "/api/session/":  # asks for the CSRF token of a cookie
            headers = {"HTTP_COOKIE": f"csrftoken={'a' * 32}", "HTTP_X_CSRFTOKEN": "a" * 32}
        if path.startswith("/admin/") and self.user is not None:
            client = Client()
            client.force_login(self.user)
            headers = {"HTTP_COOKIE": f"sessionid={client.cookies['sessionid'].value}"}
        body = json.dumps(bodies[call]).encode() if call in bodies else b""
        return ask(method, path.replace("{id}", str(video.pk)), body, **headers)


@pytest.mark.parametrize("express", [True, False], ids=["express", "django"])
@pytest.mark.parametrize("cell", CELLS)
def test_who_may_do_what_as_the_page_says(
    video: Video, settings: Any, cell: tuple[str, str, str, int], *, express: bool
) -> None:
    call_of_row, permission, who, status = cell
    settings.VIDEOS_EXPRESS = express
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the others take their time
    got = Caller(who, permission, video).send(call_of_row, video)
    assert got.status == status, got.body
    assert express or not got.express


def test_the_page_has_every_call_of_the_api() -> None:
    there = {
        f"{method.upper()} /{re.sub('<[^>]+>', '{id}', str(pattern.pattern))}"
        for pattern in urlpatterns
        if str(pattern.pattern).startswith("api/")
        for method in ("get", "post", "put", "patch", "delete")
        if hasattr(getattr(pattern.callback, "view_class", SpectacularAPIView), method)
    }
    assert {row[0] for row in ROWS[1:]} == there | {"GET /admin/videos/video/"}
