"""Who is watching: addresses behind proxies, bots, names that cannot be turned back."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from crawleruseragents import CRAWLER_USER_AGENTS_DATA

from tests.support.doors import BROWSER
from videos.api import viewers
from videos.api.viewers import (
    AGENT_CHARACTERS,
    VIEWER_PATTERN,
    client_address,
    client_site,
    is_bot,
    viewer_of,
)

pytestmark = pytest.mark.once

META = {"REMOTE_ADDR": "192.0.2.1", "HTTP_USER_AGENT": BROWSER}
WEBKIT = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
BLINK = "AppleWebKit/537.36 (KHTML, like Gecko)"


@pytest.mark.parametrize(
    ("hops", "forwarded", "address"),
    [
        (0, "203.0.113.9", "192.0.2.1"),
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "198.51.100.7, 203.0.113.9", "203.0.113.9"),
        (2, "198.51.100.7, 203.0.113.9", "198.51.100.7"),
        (2, "6.6.6.6, 198.51.100.7,203.0.113.9", "198.51.100.7"),
        (2, "203.0.113.9", "192.0.2.1"),
        (1, "", "192.0.2.1"),
        (1, "nonsense", "192.0.2.1"),
        (1, "203.0.113.9:4711", "203.0.113.9"),
        (1, "[2001:db8::1]:443", "2001:db8::1"),
        (1, "2001:DB8:0::1", "2001:db8::1"),
        (1, "fe80::1%eth0", "fe80::1"),
        (1, "::ffff:203.0.113.9", "203.0.113.9"),
        (1, "x" * 10_000, "192.0.2.1"),
        (1, "," * 1000, "192.0.2.1"),
    ],
)
def test_address_is_the_one_that_our_outermost_proxy_saw(
    settings: Any, hops: int, forwarded: str, address: str
) -> None:
    settings.VIDEOS_TRUSTED_PROXY_HOPS = hops
    assert client_address({"REMOTE_ADDR": "192.0.2.1", "HTTP_X_FORWARDED_FOR": forwarded}) == address


def test_a_client_without_an_address_has_none() -> None:
    assert client_address({}) == ""
    assert viewer_of({"HTTP_USER_AGENT": BROWSER}, user_id=None, sent=None).address is None


def test_addresses_of_one_ipv6_network_are_one_site_and_those_of_another_are_another() -> None:
    sites = {client_site({"REMOTE_ADDR": f"2001:db8:1:2::{last}"}) for last in ("1", "dead:beef", "ffff")}
    assert sites == {"2001:db8:1:2::/64"}
    assert client_site({"REMOTE_ADDR": "2001:db8:1:3::1"}) not in sites


@pytest.mark.parametrize(
    "agent",
    [
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; GPTBot/1.2; +https://openai.com/gptbot",
        "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/141.0.0.0 Safari/537.36",
    ],
)
@pytest.mark.parametrize("named", [False, True])
def test_crawlers_are_bots_whatever_name_they_give(agent: str, named: bool) -> None:
    assert is_bot(agent, named=named)


@pytest.mark.parametrize("agent", ["curl/8.5.0", "python-requests/2.32.3", "okhttp/4.12.0", "", "   "])
def test_libraries_are_bots_unless_they_name_their_viewer(agent: str) -> None:
    assert is_bot(agent, named=False)
    assert not is_bot(agent, named=True)


WEBVIEW = f"{BLINK} Version/4.0 Chrome/141.0.0.0"
ORDINARY = [
    # browsers
    BROWSER,
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {BLINK} Chrome/141.0.0.0 Safari/537.36",
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {BLINK} Chrome/141.0.0.0 Safari/537.36 Edg/141.0.0.0",
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {BLINK} Chrome/140.0.0.0 Safari/537.36 OPR/123.0.0.0",
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {WEBKIT} Version/18.5 Safari/605.1.15",
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) {WEBKIT} Version/18.0 Mobile/15E148 Safari/604.1",
    f"Mozilla/5.0 (Linux; Android 13; CUBOT X70) {BLINK} Chrome/120.0 Mobile Safari/537.36",
    f"Mozilla/5.0 (Linux; Android 14; SAMSUNG SM-S918B) {BLINK} SamsungBrowser/27.0 Chrome/125.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Android 14; Mobile; rv:140.0) Gecko/140.0 Firefox/140.0",
    # WebViews and desktop apps
    f"Mozilla/5.0 (Linux; Android 14; Pixel 8 Build/UQ1A; wv) {WEBVIEW} Mobile Safari/537.36",
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) {WEBKIT} Mobile/15E148 [FBAN/FBIOS;FBAV/500.0.0.50.92]",
    f"Mozilla/5.0 (Linux; Android 14; SM-S918B; wv) {WEBVIEW} Mobile Safari/537.36 Instagram 400.0.0.49.68 Android",
    f"Mozilla/5.0 (Linux; Android 13; SM-G991N; wv) {WEBVIEW} Mobile Safari/537.36;KAKAOTALK 2510000",
    f"Mozilla/5.0 (Linux; Android 13; SM-G991N; wv) {WEBVIEW} Whale/1.0.0.0 Safari/537.36 NAVER(inapp; search; 1100)",
    f"Mozilla/5.0 (Linux; Android 14; 2201116SG) {WEBVIEW} Mobile Safari/537.36 MicroMessenger/8.0.50",
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {BLINK} WhatsApp/2.2412.54 Chrome/114.0.5735.289 Electron/25.9.8",
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {WEBKIT} WhatsApp/24.10.78 Version/17.0 Safari/605.1.15",
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {BLINK} discord/1.0.9175 Chrome/128.0.6613.186 Electron/32.2.7",
    # apps and players
    "MyVideoApp/3.2 CFNetwork/1496.0.7 Darwin/23.5.0",
    "ExoPlayerLib/2.18.1 (Linux; Android 12)",
    "AppleCoreMedia/1.0.0.22F76 (iPhone; U; CPU OS 18_5 like Mac OS X; en_us)",
    "VLC/3.0.20 LibVLC/3.0.20",
    # consoles and TVs
    f"Mozilla/5.0 (PlayStation; PlayStation 5/8.00) {WEBKIT} Version/15.4 Safari/605.1.15",
    "Mozilla/5.0 (Nintendo Switch; WifiWebAuthApplet) AppleWebKit/606.4 (KHTML, like Gecko) NF/6 NintendoBrowser/5.1",
    f"Mozilla/5.0 (SMART-TV; LINUX; Tizen 6.0) {BLINK} 76.0.3809.146/6.0 TV Safari/537.36",
    f"Mozilla/5.0 (Web0S; Linux/SmartTV) {BLINK} Chrome/94.0.4606.128 Safari/537.36 WebAppManager",
    "Roku/DVP-14.5 (14.5.4.5931-46)",
]


@pytest.mark.parametrize("agent", [*ORDINARY, "a" * 100_000])
def test_ordinary_agents_are_no_bots(agent: str) -> None:
    assert not is_bot(agent, named=False)


def test_each_agent_that_the_public_list_names_is_a_bot() -> None:
    """The exception for an app of WhatsApp lets none of them through."""
    named = [agent for entry in CRAWLER_USER_AGENTS_DATA for agent in entry.get("instances", [])]
    assert len(named) > 1000
    assert [agent for agent in named if len(agent) <= AGENT_CHARACTERS and not is_bot(agent, named=False)] == []
    assert is_bot(f"Mozilla/5.0 (compatible; Googlebot/2.1) {BLINK} WhatsApp/2.2412.54", named=True)


def test_an_endless_user_agent_takes_no_time() -> None:
    begin = time.perf_counter()
    is_bot("Mozilla/5.0 " + "(a" * 500_000, named=False)
    assert time.perf_counter() - begin < 0.5


def test_the_signed_in_user_comes_before_the_id_that_the_client_sends() -> None:
    assert viewer_of(META, user_id=9, sent="abc").name == "@9"


def test_the_id_that_the_client_sends_comes_before_its_address() -> None:
    assert viewer_of(META, user_id=None, sent="abc").name == "abc"


def test_without_a_name_address_and_agent_tell_viewers_apart() -> None:
    def name(address: str, agent: str) -> str:
        return viewer_of({"REMOTE_ADDR": address, "HTTP_USER_AGENT": agent}, user_id=None, sent=None).name

    assert name("192.0.2.1", BROWSER) == name("192.0.2.1", BROWSER)
    assert len({name("192.0.2.1", BROWSER), name("192.0.2.2", BROWSER), name("192.0.2.1", "Safari")}) == 3


@pytest.mark.parametrize("user", [1, 2**63 - 1])
def test_what_a_client_sends_is_never_another_kinds_name(user: int) -> None:
    names = [viewer_of(META, user_id=signed_in, sent=None).name for signed_in in (user, None)]
    assert all(VIEWER_PATTERN.fullmatch(name) is None and len(name) <= 64 for name in names)


def test_addresses_are_kept_as_hashes_only() -> None:
    viewer = viewer_of(META, user_id=None, sent=None)
    assert "192.0.2" not in f"{viewer.name} {viewer.address}"


def hashes() -> tuple[str, str | None]:
    viewer = viewer_of(META, user_id=None, sent=None)
    return viewer.name, viewer.address


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the clock to so many seconds after a midnight of UTC."""
    return lambda seconds: monkeypatch.setattr(time, "time", lambda: 86_400.0 * 30_000 + seconds)


def test_hashes_of_another_day_cannot_be_joined(at: Callable[[float], None]) -> None:
    at(50_000)
    today = hashes()
    at(60_000)
    assert hashes() == today
    at(86_400 + 50_000)
    assert not set(hashes()) & set(today)


def test_windows_go_on_at_midnight_under_the_hashes_of_before(at: Callable[[float], None]) -> None:
    at(-1)
    late = viewer_of(META | {"REMOTE_ADDR": "2001:db8:1:2::3"}, user_id=None, sent=None)
    for seconds in (0, 1799):
        at(seconds)
        early = viewer_of(META | {"REMOTE_ADDR": "2001:db8:1:2::3"}, user_id=None, sent=None)
        assert early.before == (late.name, late.address, late.network)
        assert not {early.name, early.address, early.network} & {late.name, late.address, late.network}
    at(1800)
    assert viewer_of(META, user_id=None, sent=None).before is None


def test_hashes_of_another_secret_differ(settings: Any) -> None:
    own = hashes()
    settings.SECRET_KEY = "another" * 10
    assert not set(hashes()) & set(own)


def test_a_network_is_48_bits_of_ipv6() -> None:
    def network(address: str) -> str | None:
        return viewer_of({"REMOTE_ADDR": address}, user_id=None, sent=None).network

    assert network("2001:db8:1:2::3") == network("2001:db8:1:ffff::9") != network("2001:db8:2:2::3")
    assert network("192.0.2.1") is None


def test_long_text_is_no_address_and_is_not_remembered() -> None:
    before = viewers._parsed.cache_info().currsize
    assert client_address({"REMOTE_ADDR": "1" * 10_000}) == ""
    assert viewers._parsed.cache_info().currsize == before
