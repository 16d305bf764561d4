"""The page, clicked through in a real browser."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import User
from playwright.sync_api import Browser, BrowserContext, Page, expect

from servers import WebServer
from tests.support.factories import make_video
from videos.flush import run_flush
from videos.models import Video

pytestmark = [pytest.mark.once, pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PHONE = {"width": 390, "height": 844}
NO_FILM = "http://127.0.0.1:9/a.mp4"  # answers at once with no film: nothing outside of this machine is asked
FILM = "/static/videos/demo.mp4"
FILM_SECONDS = 12

Visit = Callable[..., Page]


@pytest.fixture
def videos() -> list[Video]:
    titles = ("Red kites", "Harbour", "Lighthouse")
    return [make_video(title=title, url=NO_FILM, duration=75) for title in titles]


@pytest.fixture
def film(videos: list[Video]) -> Video:
    """A video that plays."""
    video = videos[0]
    video.url, video.duration, video.description = FILM, FILM_SECONDS, "Two kites over the harbour."
    video.save()
    return video


@pytest.fixture
def visit(chromium: Browser, videos: list[Video], web_server: Callable[..., WebServer]) -> Iterator[Visit]:
    """`visit(path, **options of the context)` opens a page in a context of its own. No console may tell of an error."""
    User.objects.create_user("demo", password="demo")
    server = web_server(threads=4, WHITENOISE_USE_FINDERS="1")
    contexts: list[BrowserContext] = []
    wrong: list[str] = []

    def start(path: str = "", **options: Any) -> Page:
        context = chromium.new_context(**({"locale": "en-GB", "base_url": f"{server.url}/"} | options))
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(f"{said.text} {said.location}") if said.type == "error" else None)
        page.goto(path)
        return page

    yield start
    for context in contexts:
        context.close()
    expected = re.compile(
        r"status of 4.*/api/|favicon.ico|ERR_UNSAFE_PORT|ERR_CONNECTION"
    )  # refused sign-ins, films that are not there
    assert [text for text in wrong if not expected.search(text)] == []


def cards(page: Page) -> Any:
    return page.locator("article:not(.watch)")


def titles(page: Page, *expected: str) -> None:
    expect(page.locator(".videos h2")).to_have_text(list(expected))


def sign_in(page: Page, password: str = "demo") -> None:
    """Fill in the dialog that is open."""
    page.get_by_label("Name").fill("demo")
    page.get_by_label("Password").fill(password)
    page.locator("dialog form button").first.click()


def likes(page: Page, pressed: bool, count: str) -> None:
    like = page.locator(".like").first
    expect(like).to_have_attribute("aria-pressed", str(pressed).lower())
    expect(like.locator(".likes")).to_have_text(count)


def focus(page: Page) -> str:
    """What has the focus."""
    return str(page.evaluate("document.activeElement.outerHTML.slice(0, 60)"))


def test_a_visitor_signs_in_likes_and_unlikes(visit: Visit) -> None:
    page = visit()
    page.locator(".like").first.click()
    expect(page.locator("#why")).to_contain_text("Sign in to like")
    sign_in(page, "wrong")
    expect(page.get_by_role("alert")).to_contain_text("wrong")
    sign_in(page)
    likes(page, True, "1")
    assert "like" in focus(page)
    page.locator(".like").first.click()
    likes(page, False, "0")
    with page.expect_response("**/like/"):  # it shows the like before
        page.locator(".like").first.click()
    likes(page, True, "1")
    expect(page.locator("#user")).to_have_text("demo")
    run_flush()
    assert Video.objects.get(title="Lighthouse").like_count == 1
    page.reload()
    likes(page, True, "1")
    page.get_by_role("link", name="My likes").click()
    titles(page, "Lighthouse")
    page.locator("#sign-out").click()
    page.locator("#cancel").click()
    expect(page.locator("#sign-in")).to_be_visible()
    assert "sign-in" in focus(page)


def test_a_session_serves_all_tabs_and_no_script_reads_it(visit: Visit) -> None:
    page = visit()
    other = page.context.new_page()
    other.goto("")
    page.locator("#sign-in").click()
    sign_in(page)
    expect(page.locator("#sign-out")).to_be_focused()
    expect(other.locator("#user")).to_have_text("demo")
    assert "sessionid" not in page.evaluate("document.cookie")
    assert [cookie["httpOnly"] for cookie in page.context.cookies() if cookie["name"] == "sessionid"] == [True]
    assert page.evaluate("Object.keys(localStorage).concat(Object.keys(sessionStorage))") == []


def test_a_like_in_one_browser_moves_in_another(visit: Visit) -> None:
    page, other = visit(), visit()
    likes(other, False, "0")
    page.locator(".like").first.click()
    sign_in(page)
    likes(page, True, "1")
    likes(other, False, "1")


def test_a_refused_like_goes_back_and_says_why(visit: Visit) -> None:
    page = visit()
    page.locator("#sign-in").click()
    sign_in(page)
    expect(page.locator("#user")).to_have_text("demo")
    page.route("**/like/", lambda route: route.fulfill(status=429, json={"detail": "Request was throttled."}))
    page.locator(".like").first.click()
    expect(cards(page).first.locator(".note")).to_contain_text("Too often")
    likes(page, False, "0")


def test_videos_are_found_and_ordered_by_an_address_and_back_works(visit: Visit) -> None:
    page = visit()
    titles(page, "Lighthouse", "Harbour", "Red kites")
    page.get_by_label("Search").fill("kites")
    page.get_by_label("Search").press("Enter")
    titles(page, "Red kites")
    assert page.url.endswith("/?search=kites")
    assert "search" in focus(page)
    page.get_by_label("Search").fill("")
    page.get_by_label("Order").select_option("-like_count")
    expect(page).to_have_url(re.compile(r"/\?ordering=-like_count$"))
    titles(page, "Lighthouse", "Harbour", "Red kites")
    page.go_back()
    titles(page, "Red kites")
    page.go_back()
    titles(page, "Lighthouse", "Harbour", "Red kites")
    page.locator("h2 a").nth(1).press("Enter")
    expect(page.locator("h1")).to_have_text("Harbour")
    assert "h1" in focus(page)
    page.go_back()
    titles(page, "Lighthouse", "Harbour", "Red kites")
    assert "Harbour" in page.evaluate("document.activeElement.textContent")


def test_a_view_counts_once_it_was_played(visit: Visit, film: Video) -> None:
    page = visit(f"videos/{film.pk}/")
    note = page.locator(".note")
    expect(page.locator(".views")).to_have_text("0 views")
    page.locator("video").evaluate("film => { film.muted = true; return film.play(); }")
    expect(note).to_contain_text("A view counts after 6 s")
    expect(note).to_contain_text("Played long enough", timeout=30_000)
    assert page.locator(".views").inner_text() == "0 views"
    expect(note).to_have_text("Your view was counted.", timeout=30_000)
    expect(page.locator(".views")).to_have_text("1 view")
    run_flush()
    row = Video.objects.get(pk=film.pk)
    assert row.view_count == 1
    assert FILM_SECONDS - 2 <= row.watch_seconds <= FILM_SECONDS


def test_who_leaves_is_counted_by_what_was_played(visit: Visit, film: Video) -> None:
    page = visit(f"videos/{film.pk}/")
    page.locator("video").evaluate("film => { film.muted = true; return film.play(); }")
    expect(page.locator(".note")).to_contain_text("Played long enough", timeout=30_000)
    page.goto("about:blank")
    other = visit(f"videos/{film.pk}/")
    expect(other.locator(".views")).to_have_text("1 view")


def test_jumping_through_a_film_is_no_view(visit: Visit, film: Video) -> None:
    page = visit(f"videos/{film.pk}/")
    page.locator("video").evaluate("film => { film.muted = true; return film.play(); }")
    expect(page.locator(".note")).to_contain_text("A view counts after")
    page.locator("video").evaluate("film => { film.currentTime = 11.5; }")
    expect(page.locator(".note")).to_contain_text("too little of it was played")
    expect(page.locator(".views")).to_have_text("0 views")


def test_a_film_that_does_not_play_counts_nothing(visit: Visit, videos: list[Video]) -> None:
    sent: list[str] = []
    page = visit(f"videos/{videos[1].pk}/")
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    expect(page.locator(".note")).to_contain_text("There is no film")
    page.get_by_role("link", name="Likes and views").click()
    titles(page, "Lighthouse", "Harbour", "Red kites")
    run_flush()
    assert sent == []
    assert Video.objects.get(pk=videos[1].pk).view_count == 0


def test_numbers_of_visible_cards_alone_are_read_and_none_in_a_hidden_tab(visit: Visit) -> None:
    for number in range(30):
        make_video(title=f"More {number}", url=NO_FILM)
    page = visit(viewport=PHONE)
    with page.expect_request("**/counts/?ids=*") as first:
        expect(cards(page)).to_have_count(24)
    assert 1 <= len(first.value.url.split("=")[1].split(",")) <= 6
    page.evaluate("Object.defineProperty(document, 'hidden', { value: true })")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(5000)
    assert asked == []


def test_more_videos_follow_and_the_first_of_them_has_the_focus(visit: Visit) -> None:
    for number in range(30):
        make_video(title=f"More {number}", url=NO_FILM)
    page = visit()
    page.get_by_role("button", name="More videos").press("Enter")
    expect(cards(page)).to_have_count(33)
    assert "More 5" in page.evaluate("document.activeElement.textContent")


def test_an_address_without_a_video_says_so(visit: Visit) -> None:
    page = visit("videos/999999/")
    expect(page.locator("h1")).to_have_text("There is no such video.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_axe_finds_nothing_and_nothing_is_cut(visit: Visit, film: Video, scheme: str, width: int) -> None:
    page = visit(viewport={"width": width, "height": 844}, color_scheme=scheme)
    expect(cards(page)).to_have_count(3)
    box = cards(page).first.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= 844
    for path in ("", f"videos/{film.pk}/", "likes/"):
        page.goto(path)
        expect(page.locator("dialog[open], .counts").first).to_be_visible()
        assert [(found["id"], found["nodes"][0]["html"]) for found in Axe().run(page).response["violations"]] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_film_covers_neither_its_title_nor_what_is_said_of_it(visit: Visit, film: Video) -> None:
    page = visit(f"videos/{film.pk}/", viewport={"width": 1280, "height": 800})
    expect(page.locator("h1")).to_have_text(film.title)
    bottom = page.locator("video").evaluate("film => film.getBoundingClientRect().bottom")
    assert bottom <= page.locator("h1").evaluate("title => title.getBoundingClientRect().top")


def test_it_speaks_korean(visit: Visit, film: Video) -> None:
    Video.objects.filter(pk=film.pk).update(view_count=1234)
    page = visit(f"videos/{film.pk}/", locale="ko-KR")
    expect(page.locator(".views")).to_have_text("조회수 1.2천회")
    assert page.locator("html").get_attribute("lang") == "ko"
    page.get_by_role("button", name="English").click()
    expect(page.locator(".views")).to_have_text("1.2K views")
    assert page.locator("html").get_attribute("lang") == "en"


def test_staff_like_with_the_admin_session(visit: Visit) -> None:
    User.objects.create_superuser("admin", password="admin")
    page = visit("admin/login/?next=/")
    page.locator("[name=username]").fill("admin")
    page.locator("[name=password]").fill("admin")
    page.locator("[type=submit]").click()
    expect(page.locator("#user")).to_have_text("admin")
    page.locator(".like").first.click()
    likes(page, True, "1")


SEND = """
async (url) => {
  const body = () => JSON.stringify({ viewer: crypto.randomUUID() });
  navigator.sendBeacon(url, body());
  await fetch(url, { method: "POST", mode: "no-cors", body: body() }).catch(() => {});
  await new Promise((done) => setTimeout(done, 500));
}
"""


def test_a_page_of_another_site_makes_nobody_view(visit: Visit, videos: list[Video]) -> None:
    page = visit(bypass_csp=True)  # the policy of the pages at hand would keep them from asking
    path, port = f"/api/videos/{videos[0].pk}/view/", page.url.rsplit(":", 1)[1].strip("/")

    def views(site: str) -> int:
        page.goto(f"http://{site}:{port}/api/docs/")
        page.evaluate(SEND, f"http://127.0.0.1:{port}{path}")
        read = "(path) => fetch(path).then((answer) => answer.json()).then((video) => video.view_count)"
        return int(page.evaluate(read, path.replace("view/", "")))

    assert views("localhost") == 0  # to 127.0.0.1 it is another site
    assert views("127.0.0.1") == 2
