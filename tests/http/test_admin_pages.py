"""The admin, opened in a real browser: nothing in the console, and axe finds nothing, light and dark.

With ADMIN_SCREENSHOTS=FOLDER the pages are kept as pictures.
"""

import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import User
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect

from servers import WebServer
from tests.support.factories import make_user, make_video
from videos import counters, services
from videos.flush import run_flush
from videos.models import FlushBatch, Video
from videos.services import ViewEvent

pytestmark = [pytest.mark.once, pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def videos() -> list[Video]:
    """Videos that are liked and watched, flushed and not; and a batch that needs to be looked at."""
    made = [make_video(title=title, duration=75) for title in ("Red kites", "Harbour", "Lighthouse")]
    fans = [make_user(f"fan{number}") for number in range(9)]
    for number in range(2):
        for place, video in enumerate(made):
            for fan in fans[place * 2 : 9 - number]:
                services.set_like(video_id=video.id, user_id=fan.id, liked=True)
                services.record_view(event=ViewEvent(video.id, f"{fan}{number}", watched=40))
        if not number:
            run_flush()
    now = datetime.now(UTC)
    for minute in range(60):
        at = now - timedelta(minutes=minute)
        FlushBatch.objects.create(
            shard=3, number=100 - minute, claimed_at=at - timedelta(seconds=1), finished_at=at, fields=400,
            applied=400, videos=60, likes_added=60 + minute * 7 % 40, likes_removed=3, views=1200 + minute * 31 % 500,
            watched=9000 + minute * 131 % 3000, dropped=2 * (minute == 30),
        )  # fmt: skip
    return made


@pytest.fixture(params=["light", "dark"])
def admin(
    chromium: Browser, videos: list[Video], web_server: Callable[..., WebServer], request: pytest.FixtureRequest
) -> Iterator[Page]:
    """The first page, 1280 px wide, signed in by unfold's form. No console may tell of an error."""
    User.objects.create_superuser("boss", password="boss")
    server = web_server(threads=4, WHITENOISE_USE_FINDERS="1")
    context = chromium.new_context(
        viewport={"width": 1280, "height": 900}, color_scheme=request.param, base_url=server.url
    )
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto("/admin/")
    look(page, "sign-in", request.param)
    page.fill("[name=username]", "boss")
    page.fill("[name=password]", "boss")
    page.click("[type=submit]")
    expect(page.locator("h2", has_text="The flush")).to_be_visible()
    yield page
    context.close()
    assert wrong == []


def look(page: Page, name: str, scheme: str) -> None:
    """No part is wider than the window, and axe finds nothing."""
    page.wait_for_load_state("load")
    folder = os.environ.get("ADMIN_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"admin-{name}-{scheme}.png")
    found = Axe().run(page).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_each_page_is_in_order(admin: Page, videos: list[Video], request: pytest.FixtureRequest) -> None:
    scheme = request.node.callspec.params["admin"]
    look(admin, "first", scheme)
    for name, path in {
        "videos": reverse("admin:videos_video_changelist"),
        "found": reverse("admin:videos_video_changelist") + "?q=harbour",
        "video": reverse("admin:videos_video_change", args=[videos[0].pk]),
        "add": reverse("admin:videos_video_add"),
        "likes": reverse("admin:videos_videolike_changelist"),
        "hours": reverse("admin:videos_videohour_changelist"),
        "batches": reverse("admin:videos_flushbatch_changelist"),
        "users": reverse("admin:auth_user_changelist"),
        "user": reverse("admin:auth_user_change", args=[videos[0].owner_id]),
        "deletion": reverse("admin:auth_user_delete", args=[videos[0].owner_id]),
    }.items():
        admin.goto(path)
        look(admin, name, scheme)


@pytest.mark.parametrize("admin", ["light"], indirect=True)
def test_the_flush_is_started_and_trouble_acknowledged(admin: Page, videos: list[Video]) -> None:
    admin.get_by_role("button", name="Acknowledge").click()
    expect(admin.get_by_text("1 batch acknowledged.")).to_be_visible()
    expect(admin.get_by_text("To be looked at")).to_have_count(0)
    admin.get_by_role("button", name="Flush now").click()
    batches = len({counters.shard_of(video.pk) for video in videos})
    expect(admin.get_by_text(re.compile(rf"changes in {batches} batch"))).to_be_visible()
    admin.get_by_role("link", name=videos[0].title).first.click()
    admin.get_by_text("As a table").first.click()
    expect(admin.get_by_role("region").first).to_be_visible()
