"""The page, clicked through in a real browser."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from servers import WebServer
from tests.conftest import unavailable
from tests.support.factories import make_video
from videos.flush import run_flush
from videos.models import SignIn, Video

pytestmark = [pytest.mark.once, pytest.mark.browser, pytest.mark.django_db(transaction=True)]

AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1200,900"),
)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chrome]:
    """Chromium without a window. Its own user agent says that it is headless, and headless browsers are bots."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        unavailable("chromium or chromedriver is not installed (Debian: apt install chromium chromium-driver)")
    options = ChromeOptions()
    options.binary_location = str(chromium)
    for option in (*OPTIONS, f"--user-data-dir={tmp_path / 'chromium'}", f"--user-agent={AGENT}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = Chrome(options=options, service=Service(str(driver)))
    yield chrome
    chrome.quit()


@pytest.fixture
def videos() -> list[Video]:
    titles = ("Red kites", "Harbour", "Lighthouse")
    # An address that answers at once, with something that is no film: nothing outside of this machine is asked.
    return [make_video(title=title, url="http://127.0.0.1:9/a.mp4", duration=75) for title in titles]


@pytest.fixture
def page(browser: Chrome, videos: list[Video], web_server: Callable[..., WebServer]) -> Chrome:
    """The page, with its videos, in front of nobody in particular."""
    User.objects.create_user("demo", password="demo")
    browser.get(f"{web_server().url}/")
    wait(browser, lambda: len(cards(browser)) == 3)
    return browser


def wait(browser: Chrome, condition: Callable[[], bool]) -> None:
    WebDriverWait(browser, 10).until(lambda _: condition())


def find(browser: Chrome | WebElement, selector: str) -> WebElement:
    return browser.find_element(By.CSS_SELECTOR, selector)


def cards(browser: Chrome) -> list[WebElement]:
    return browser.find_elements(By.CSS_SELECTOR, "#videos article")


def says(browser: Chrome, text: str) -> None:
    wait(browser, lambda: text in find(browser, "#status").text)


def sign_in(browser: Chrome, password: str = "demo") -> None:
    for name, value in (("username", "demo"), ("password", password)):
        field = find(browser, f"[name={name}]")
        field.clear()
        field.send_keys(value)
    find(browser, "#sign-in button").click()


def test_a_visitor_signs_in_likes_and_unlikes(page: Chrome, videos: list[Video]) -> None:
    like = find(cards(page)[0], ".like")
    like.click()
    says(page, "Sign in to like")
    sign_in(page, "wrong")
    says(page, "No active account")
    sign_in(page)
    says(page, "Signed in as demo")
    for pressed, likes in (("true", "1"), ("false", "0"), ("true", "1")):
        like.click()
        wait(page, lambda pressed=pressed: like.get_attribute("aria-pressed") == pressed)  # type: ignore[misc]
        assert find(like, ".likes").text == likes
    run_flush()
    assert Video.objects.get(title="Lighthouse").like_count == 1
    page.refresh()
    wait(page, lambda: len(cards(page)) == 3)
    assert find(cards(page)[0], ".like").get_attribute("aria-pressed") == "true"
    find(page, "#sign-out").click()
    wait(page, lambda: find(cards(page)[0], ".like").get_attribute("aria-pressed") == "false")


def test_playing_counts_a_view_once(page: Chrome, videos: list[Video]) -> None:
    find(cards(page)[1], ".play").click()
    says(page, "Your view was counted.")
    assert find(cards(page)[1], ".views").text == "1 view"
    page.refresh()
    wait(page, lambda: len(cards(page)) == 3)
    find(cards(page)[1], ".play").click()
    says(page, "not counted: seen already")
    run_flush()
    assert Video.objects.get(title="Harbour").view_count == 1


def test_videos_are_found_and_ordered(page: Chrome) -> None:
    find(page, "[name=search]").send_keys("kites")
    find(page, "#find button").click()
    wait(page, lambda: [find(card, "h2").text for card in cards(page)] == ["Red kites"])
    find(page, "[name=search]").clear()
    find(page, "option[value='-like_count']").click()
    wait(page, lambda: len(cards(page)) == 3)


def test_every_control_has_a_name_and_nothing_goes_wrong_in_silence(page: Chrome) -> None:
    controls = page.find_elements(By.CSS_SELECTOR, "button, input, select, a")
    assert [
        control.get_attribute("outerHTML")
        for control in controls
        if control.is_displayed() and not control.accessible_name
    ] == []
    assert [entry["message"] for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []  # type: ignore[no-untyped-call]


def test_staff_like_with_the_admin_session(page: Chrome, web_server: Callable[..., WebServer]) -> None:
    User.objects.create_superuser("admin", password="admin")
    page.get(page.current_url + "admin/login/?next=/")
    find(page, "[name=username]").send_keys("admin")
    find(page, "[name=password]").send_keys("admin")
    find(page, "[type=submit]").click()
    wait(page, lambda: len(cards(page)) == 3)
    assert "admin" in find(page, "#signed-in").text
    find(cards(page)[2], ".like").click()
    wait(page, lambda: find(cards(page)[2], ".like").get_attribute("aria-pressed") == "true")


SEND = """
const [url, done] = arguments, body = () => JSON.stringify({ viewer: crypto.randomUUID() });
navigator.sendBeacon(url, body());
fetch(url, { method: "POST", mode: "no-cors", body: body() }).finally(() => setTimeout(done, 500));
"""


def test_a_page_of_another_site_makes_nobody_view(page: Chrome, videos: list[Video]) -> None:
    path, port = f"/api/videos/{videos[0].pk}/view/", page.current_url.rsplit(":", 1)[1].strip("/")

    def views(site: str) -> int:
        page.get(f"http://{site}:{port}/api/docs/")
        page.execute_async_script(SEND, f"http://127.0.0.1:{port}{path}")
        return int(page.execute_async_script(
            "fetch(arguments[0]).then((answer) => answer.json()).then((video) => arguments[1](video.view_count))",
            path.replace("view/", ""),
        ))  # fmt: skip

    assert views("localhost") == 0  # to 127.0.0.1 it is another site
    assert views("127.0.0.1") == 2


def test_calls_that_find_the_token_expired_share_one_renewal_and_signing_out_ends_it(page: Chrome) -> None:
    def access() -> str | None:
        token: str | None = page.execute_script("return sessionStorage.getItem('access')")
        return token

    sign_in(page)
    says(page, "Signed in as demo")
    likes = "document.querySelectorAll('.like').forEach((button) => button.click())"
    page.execute_script(f"sessionStorage.setItem('access', 'expired'); {likes}")
    wait(page, lambda: access() != "expired")
    assert access() is not None
    assert SignIn.objects.count() == 1
    find(page, "#sign-out").click()
    wait(page, lambda: not SignIn.objects.exists())
