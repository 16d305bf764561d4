"""A program that uses the whole service once, under the settings that the environment names, and prints what is wrong.

Tests start it through `own_settings.exercise`, because settings such as USE_TZ are read when Django starts. It prints
one JSON object: the ids of the system checks that speak, and a line for each thing that is wrong. The file is long
because it is one program, which leaves out no part of the service.
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import django
from django.apps import apps

if not apps.ready:
    django.setup()

from django.contrib.auth import get_user_model
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import connections, router, transaction
from django.test import Client

from streaming.wsgi import application
from tests.support.doors import ask
from tests.support.faults import redis_refusing
from videos import ledger, services
from videos.changes import HOUR_SECONDS, zeros
from videos.flush import reconcile, run_flush
from videos.ledger import sql
from videos.models import FlushBatch, Video, VideoHour, VideoLike
from videos.services import ViewEvent

PREFIX = os.environ.get("EXERCISE_PREFIX", "")  # before the paths of the service
DAY = 24 * HOUR_SECONDS
faults: list[str] = []


def check(name: str, seen: Any, right: Any) -> None:
    """Note a value that is not right."""
    if seen != right:
        faults.append(f"{name}: {seen!r}, not {right!r}"[:500])


def part(act: Callable[..., Any], *arguments: Any) -> Any:
    """Run a part of the exercise; what it raises is a fault."""
    try:
        return act(*arguments)
    except Exception:  # noqa: BLE001
        faults.append(f"{act.__name__}: {traceback.format_exc()[-1500:]}")
        return None


def make_user(name: str, **values: Any) -> Any:
    """A user of whatever model there is, with the password "pw"."""
    model = get_user_model()
    login = f"{name}@people.example" if "mail" in model.USERNAME_FIELD else name
    user = model(**{model.USERNAME_FIELD: login, **values})
    user.set_password("pw")
    user.save()
    return user


def call(method: str, path: str, body: Any = None, *, token: str = "", right: int = 200) -> Any:
    """The value of an answer through the WSGI callable; another status than the right one is a fault."""
    headers: dict[str, Any] = {"HTTP_AUTHORIZATION": f"Bearer {token}"} if token else {}
    path, _, query = path.partition("?")
    sent = b"" if body is None else json.dumps(body).encode()
    got = ask(method, f"{PREFIX}{path}", sent, handler=application, QUERY_STRING=query, **headers)
    check(f"{method} {path}", (got.status, got.body if got.status != right else None), (right, None))
    return got.body if isinstance(got.body, dict | list) else {}


def sign_in(user: Any) -> str:
    """The access token of a user."""
    return str(call("POST", "/api/token/", {"username": user.get_username(), "password": "pw"}).get("access", ""))


def counts(video_id: int) -> tuple[Any, ...]:
    """What a reader is shown."""
    (found,) = call("GET", f"/api/videos/counts/?ids={video_id}") or [{}]
    return found.get("like_count"), found.get("view_count")


def rows(video_id: int) -> tuple[int, int, int]:
    """The columns, and the number of like rows."""
    using = router.db_for_write(Video)
    video = Video.objects.using(using).get(pk=video_id)
    return video.like_count, video.view_count, VideoLike.objects.using(using).filter(video=video_id).count()


def flush(name: str) -> None:
    """Flush; a failed shard is a fault."""
    report = run_flush()
    check(f"flush {name}", (report.failures, report.complete, report.rejected), ({}, True, 0))


def api(ann: str, bob: str, owner: str, may_send_views: bool) -> int:
    """Likes, views and reads over HTTP, before and after a flush."""
    made = call("POST", "/api/videos/", {"title": "t", "url": "https://v.example/1"}, token=owner, right=201)
    video_id = int(made["id"])
    begun = time.time() // HOUR_SECONDS
    for _ in range(2):
        like = call("PUT", f"/api/videos/{video_id}/like/", token=ann)
        check("like", (like.get("liked"), like.get("like_count")), (True, 1))
    call("PUT", f"/api/videos/{video_id}/like/", token=bob)
    call("DELETE", f"/api/videos/{video_id}/like/", token=bob)
    view = call("POST", f"/api/videos/{video_id}/view/", {"viewer": "v1", "watched": 40})
    check("view", (view.get("reason"), view.get("view_count")), ("new", 1))
    check("counts before the flush", counts(video_id), (1, 1))
    flush("once")
    check("rows", rows(video_id), (1, 1, 1))
    check("counts after the flush", counts(video_id), (1, 1))
    hours = {row[0] // HOUR_SECONDS for row in stored_hours(video_id)}
    check("hours", bool(hours) and hours <= {begun, begun + 1}, True)
    for path, token in (
        ("videos/", ""),
        (f"videos/{video_id}/", ann),
        ("me/likes/", ann),
        (f"videos/{video_id}/likes/", owner),
    ):
        call("GET", f"/api/{path}", token=token)
    listed = call("GET", "/api/me/likes/?page_size=1", token=ann).get("results", [])
    check("my likes", [one["video"]["id"] for one in listed], [video_id])
    check("created_at", abs(_seconds(made["created_at"]) - time.time()) < 600, True)
    pages = call("GET", "/api/videos/?page_size=1&ordering=created_at")
    check("next page", [one["id"] for one in _follow(pages.get("next"))], [])
    found = call("GET", "/api/videos/?search=t")
    check("search", [one["id"] for one in found.get("results", [])], [video_id])
    call("PATCH", f"/api/videos/{video_id}/", {"title": "u"}, token=owner)
    call("GET", "/api/videos/987654321/", right=404)
    call("GET", "/api/nowhere/", right=404)
    if PREFIX:  # the express lane leaves the usual addresses to the view that has them
        check("another app", ask("GET", "/api/videos/", handler=application).content, b"of another app")
    call("PUT", f"/api/videos/{video_id}/like/", right=401)
    call("POST", "/api/token/", {"username": "nobody", "password": "x"}, right=401)
    if not may_send_views:
        return video_id
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    call("POST", "/api/views/", {"events": [{"video": video_id, "viewer": "v2", "at": at}]}, token=owner)
    flush("again")
    check("rows of two views", rows(video_id), (1, 2, 1))
    return video_id


def _seconds(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def _follow(url: str | None) -> list[Any]:
    if not url:
        return []
    address = url.split("localhost", 1)[1]
    path = address.removeprefix(PREFIX)
    return list(call("GET", path).get("results", []))


def stored_hours(video_id: int) -> list[tuple[int, int, int]]:
    """The hour rows of a video: Unix seconds, likes, views."""
    from videos.ledger.times import from_stored

    found = VideoHour.objects.using(router.db_for_write(Video)).filter(video=video_id).order_by("hour")
    return [(int(from_stored(row.hour).timestamp()), row.likes, row.views) for row in found]


def pages(staff: Any, spoken: list[str]) -> None:
    """The pages: admin, schema, health, metrics."""
    client = Client(headers={"host": "localhost"})
    described = () if "videos.W005" in spoken else ("/api/schema/", "/api/docs/")
    for path in ("/", *described, "/health/live", "/health/ready", "/metrics"):
        check(path, client.get(f"{PREFIX}{path}").status_code, 200)
    state = client.get(f"{PREFIX}/health/ready").json()
    check("health", [name for name in ("database", "redis", "flush") if not state[name]["ok"]], [])
    if not apps.is_installed("django.contrib.admin"):
        return
    client.force_login(staff)
    for path in (
        "",
        "videos/video/",
        "videos/video/add/",
        "videos/videolike/",
        "videos/flushbatch/",
        "videos/videohour/",
    ):
        answer = client.get(f"/admin/{path}")
        check(f"/admin/{path}", answer.status_code, 200)
    owner = staff.pk
    video = {"title": "by hand", "description": "", "url": "https://v.example/2", "duration": "5", "owner": str(owner)}
    check("add by admin", client.post("/admin/videos/video/add/", video).status_code, 302)
    made = Video.objects.using(router.db_for_write(Video)).get(title="by hand")
    edit = f"/admin/videos/video/{made.pk}/change/"
    check("edit page", client.get(edit).status_code, 200)
    check("edit by admin", client.post(edit, video | {"duration": "6"}).status_code, 302)
    services.set_like(video_id=made.pk, user_id=owner, liked=True)
    flush("in the admin")
    like = VideoLike.objects.using(router.db_for_write(Video)).get(video=made)
    remove = {"action": "reconcile", "_selected_action": [str(made.pk)]}
    check("reconcile", client.post("/admin/videos/video/", remove).status_code, 302)
    check("unlike page", client.get(f"/admin/videos/videolike/{like.pk}/delete/").status_code, 200)
    check(
        "unlike by admin", client.post(f"/admin/videos/videolike/{like.pk}/delete/", {"post": "yes"}).status_code, 302
    )
    flush("after the admin")
    check("rows after the admin", rows(made.pk), (0, 0, 0))
    with redis_refusing():
        services.set_like(video_id=made.pk, user_id=owner, liked=True)
    like = VideoLike.objects.using(router.db_for_write(Video)).get(video=made)
    with redis_refusing():
        body = {"action": "delete_selected", "_selected_action": [str(like.pk)], "post": "yes"}
        check("delete selected", client.post("/admin/videos/videolike/", body).status_code, 302)
    flush("after Redis was away")
    check("rows after deletion", rows(made.pk), (0, 0, 0))
    check("delete by admin", client.post(f"/admin/videos/video/{made.pk}/delete/", {"post": "yes"}).status_code, 302)
    check("gone", Video.objects.using(router.db_for_write(Video)).filter(pk=made.pk).exists(), False)


def in_a_transaction(video_id: int, user: Any) -> None:
    """Services within a transaction of the caller, which stays open and is committed by the caller."""
    using = router.db_for_write(Video)
    right = rows(video_id)
    with transaction.atomic(using=using):
        Video.objects.using(using).filter(pk=video_id).update(title="by the caller")
        services.set_like(video_id=video_id, user_id=user.pk, liked=True)
        services.get_like(video_id=video_id, user_id=user.pk)
        services.record_view(event=ViewEvent(video_id, "in a transaction"))
        services.read_video(video_id=video_id)
        services.likers(video_id=video_id, user_id=user.pk, window=services.Window("created_at", True, None, 5))
        with redis_refusing():
            services.set_like(video_id=video_id, user_id=user.pk, liked=False)
            services.set_like(video_id=video_id, user_id=user.pk, liked=True)
            services.record_view(event=ViewEvent(video_id, "in a transaction, by the rows"))
    flush("after the caller's transaction")
    check("rows after the caller's transaction", rows(video_id), (right[0] + 1, right[1] + 2, right[2] + 1))
    check("the caller's own write", Video.objects.using(using).get(pk=video_id).title, "by the caller")
    transaction.set_autocommit(False, using=using)
    try:
        Video.objects.using(using).filter(pk=video_id).update(title="without autocommit")
        services.read_video(video_id=video_id)
        with redis_refusing():
            services.set_like(video_id=video_id, user_id=user.pk, liked=False)
        transaction.commit(using=using)
    finally:
        transaction.set_autocommit(True, using=using)
    flush("without autocommit")
    check("rows without autocommit", rows(video_id), (right[0], right[1] + 2, right[2]))
    check("written without autocommit", Video.objects.using(using).get(pk=video_id).title, "without autocommit")


def housekeeping(video_id: int) -> None:
    """Old hours are merged into the first hour of their day in UTC, once."""
    from datetime import UTC, datetime

    day = int(time.time()) // DAY - 60
    before = stored_hours(video_id)
    hours = {(video_id, day * 24 + hour): (0, 1, *zeros()[2:]) for hour in (0, 1, 13, 23)}
    with transaction.atomic(using=router.db_for_write(Video)):
        sql.add_hours(hours)
    for _ in range(2):
        ledger.prune(now=datetime.now(UTC))
        check("merged hours", stored_hours(video_id), [(day * DAY, 0, 4), *before])
    VideoHour.objects.using(router.db_for_write(Video)).filter(views=4).delete()


def deletions(video_id: int, ann: Any, token: str) -> None:
    """Deleting a user and a video; at the end the recount finds nothing."""
    before = rows(video_id)
    if apps.is_installed("people"):  # an app of the operator's, with a proxy of its users
        ann = apps.get_app_config("people").get_model("Member")._default_manager.get(pk=ann.pk)
    ann.delete()
    check("rows without the user", rows(video_id), (before[0] - 1, before[1], before[2] - 1))
    flush("without the user")
    check("counts without the user", counts(video_id)[0], before[0] - 1)
    check("recount", reconcile().differences, [])
    call("DELETE", f"/api/videos/{video_id}/", token=token, right=204)
    flush("without the video")
    call("GET", f"/api/videos/{video_id}/", right=404)
    unfinished = FlushBatch.objects.using(router.db_for_write(Video)).filter(finished_at=None)
    check("unfinished batches", unfinished.count(), 0)


def main() -> None:
    """Make the tables, look at the checks, use everything."""
    found = run_checks(include_deployment_checks=False, databases=[router.db_for_write(Video)])
    spoken = sorted({str(message.id) for message in found if str(message.id).startswith(("videos", "admin", "fields"))})
    if "--checks" not in sys.argv:
        for alias in connections:
            call_command("migrate", verbosity=0, database=alias, run_syncdb=True)
        owner, ann, bob = (make_user(name) for name in ("owner", "ann", "bob"))
        may_send_views = hasattr(owner, "is_staff")
        if may_send_views:
            owner.is_superuser = owner.is_staff = True
            owner.save()
        tokens = [sign_in(user) for user in (ann, bob, owner)]
        video_id = part(api, *tokens, may_send_views)
        part(pages, owner, spoken)
        if video_id is not None:
            part(in_a_transaction, video_id, bob)
            part(housekeeping, video_id)
            part(deletions, video_id, ann, tokens[2])
    sys.stdout.write(json.dumps({"checks": spoken, "faults": faults}) + "\n")


if __name__ == "__main__":
    main()
