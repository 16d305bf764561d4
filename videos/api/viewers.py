"""Viewers: the client's address, whether it is a bot, and the name under which its views are counted once.

Nothing here calls a server. Costly results are cached, because the same client calls often.
"""

import hmac
import logging
import re
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from functools import cache, lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final, NamedTuple

from crawleruseragents import CRAWLER_USER_AGENTS_DATA
from django.conf import settings
from django.utils.encoding import force_bytes

from videos.changes import DAY_SECONDS
from videos.conf import conf
from videos.services import Hashes

ADDRESS_CHARACTERS = 100  # of the longest text that is taken for an address: what is parsed is remembered
AGENT_CHARACTERS = 512  # of a user agent; the rest is ignored, because the patterns are slow on long texts
VIEWER_PATTERN: Final = re.compile(r"[A-Za-z0-9_.:+/=~-]{1,64}")
FORWARDED: Final = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP")  # what proxies add
LASTING: Final = -1  # in place of a period
IPV6_NETWORK_BITS = 48  # the network of a site, which chooses from 65,536 of the former
IPV6_SITE_BITS = 64  # the network of a household or a phone, which chooses the lower half freely

logger = logging.getLogger(__name__)


class Viewer(NamedTuple):
    """A viewer for the rules of views. `address` and `network` are keyed hashes; None: no cap applies."""

    name: str  # "@9" for user 9, "#…" for a hash of address and user agent, else the id that the client keeps
    address: str | None
    network: str | None
    bot: bool
    before: Hashes | None = None  # the same under the key of before, while a window of that time may be open


def viewer_of(meta: Mapping[str, Any], *, user_id: int | None, sent: str | None) -> Viewer:
    """The viewer of a request: the signed-in user, else the id that the client `sent`, else address and user agent.

    The three kinds of names cannot collide: VIEWER_PATTERN allows neither "@" nor "#".
    """
    agent = meta.get("HTTP_USER_AGENT", "")
    bot = is_bot(agent, named=user_id is not None or bool(sent))
    site = client_site(meta)
    own = sent if user_id is None else f"@{user_id}"
    window = conf.VIEW_WINDOW_SECONDS
    length = max(DAY_SECONDS, window)  # of a period, whose key hashes: a day of UTC, unless a window is longer
    period, seconds = divmod(time.time(), length)
    name, address, network = _hashes(own, site, agent, period)
    before = Hashes(*_hashes(own, site, agent, period - 1)) if seconds < window else None
    return Viewer(name, address, network, bot, before)


def _hashes(own: str | None, site: str, agent: str, period: float) -> tuple[str, str | None, str | None]:
    """Name, address and network of a viewer; `own`: the name, if it is no hash."""
    secret = settings.SECRET_KEY
    address, network = _site_hashes(site, period, secret)
    return own or f"#{_keyed_hash(f'{site} {agent[:AGENT_CHARACTERS]}', period, secret)}", address, network


@lru_cache(maxsize=16_384)
def _site_hashes(site: str, period: float, secret: str | bytes) -> tuple[str | None, str | None]:
    network = _keyed_hash(_network(site), period, secret) if ":" in site else None
    return _keyed_hash(site, period, secret) if site else None, network


def client_address(meta: Mapping[str, Any]) -> str:
    """The client's address, "" if the server does not know it.

    With VIDEOS_TRUSTED_PROXY_HOPS it is the address that the outermost trusted proxy saw: so many places from the right
    of X-Forwarded-For. The client can write any address further left.
    """
    hops = conf.TRUSTED_PROXY_HOPS
    if hops:
        seen = meta.get("HTTP_X_FORWARDED_FOR", "").rsplit(",", hops)[-hops:]
        if len(seen) == hops and (address := _canonical(seen[0])):
            return address
    elif "HTTP_X_FORWARDED_FOR" in meta and is_proxy_forgotten(meta):
        _warn_of_forgotten_proxy()
    return _canonical(meta.get("REMOTE_ADDR", ""))


def is_proxy_forgotten(meta: Mapping[str, Any]) -> bool:
    """Whether a request came through a proxy in a private network of which VIDEOS_TRUSTED_PROXY_HOPS does not know.

    Then all callers have one address, that of the proxy: limits hold for all of them together.
    """
    forwarded = any(name in meta for name in FORWARDED)
    return forwarded and not conf.TRUSTED_PROXY_HOPS and _is_private(_canonical(meta.get("REMOTE_ADDR", "")))


@cache
def _warn_of_forgotten_proxy() -> None:
    logger.warning(
        "A proxy in a private network sends X-Forwarded-For, but TRUSTED_PROXY_HOPS is 0: every caller is taken for "
        "the proxy. Set TRUSTED_PROXY_HOPS to the number of your proxies; /health/ready shows how a caller is seen."
    )


def is_inside(meta: Mapping[str, Any]) -> bool:
    """Whether the client is in one of VIDEOS_PRIVATE_NETWORKS. Who comes through a forgotten proxy is not."""
    return _is_private(client_address(meta)) and not is_proxy_forgotten(meta)


def _is_private(address: str) -> bool:
    return bool(address) and any(ip_address(address) in network for network in _networks(tuple(conf.PRIVATE_NETWORKS)))


@lru_cache(maxsize=4)
def _networks(texts: tuple[str, ...]) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(text) for text in texts)


def client_site(meta: Mapping[str, Any]) -> str:
    """The client's IPv4 address, or its IPv6 network of 64 bits, in which it can choose addresses. Limits use it."""
    return _site(client_address(meta))


def is_bot(agent: str, *, named: bool) -> bool:
    """Whether a user agent is a bot's, by the list that the package crawler-user-agents keeps.

    Views of crawlers never count. Apps too send a library's name (okhttp, curl) or no name. Their views count if the
    client is `named`: signed in, or with a viewer id of its own, which crawlers do not have.
    """
    kind = _kind_of_agent(agent[:AGENT_CHARACTERS])
    return kind == "crawler" or (kind == "library" and not named)


def lasting_hash(text: str) -> str:
    """A keyed hash that cannot be reversed, for what is kept for minutes."""
    return _keyed_hash(text, LASTING, settings.SECRET_KEY)


@lru_cache(maxsize=16_384)
def _keyed_hash(text: str, period: float, secret: str | bytes) -> str:
    """A hash that cannot be reversed. Its key changes with the period, so days cannot be compared."""
    digest = hmac.digest(_period_key(period, secret), text.encode(errors="replace"), "sha256")
    return urlsafe_b64encode(digest[:15]).decode()


@lru_cache(maxsize=4)
def _period_key(period: float, secret: str | bytes) -> bytes:
    return hmac.digest(force_bytes(secret), b"videos.viewers:%d" % period, "sha256")


def _canonical(text: str) -> str:
    return "" if len(text) > ADDRESS_CHARACTERS else _parsed(text)


@lru_cache(maxsize=16_384)
def _parsed(text: str) -> str:
    text = text.strip()
    if text.startswith("["):  # [2001:db8::1]:443, as some proxies write it
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:  # 192.0.2.1:443
        text = text.partition(":")[0]
    try:
        address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    return str(getattr(address, "ipv4_mapped", None) or address)


@lru_cache(maxsize=16_384)
def _site(address: str) -> str:
    return str(ip_network(f"{address}/{IPV6_SITE_BITS}", strict=False)) if ":" in address else address


@lru_cache(maxsize=16_384)
def _network(site: str) -> str:
    return str(ip_network(site).supernet(new_prefix=IPV6_NETWORK_BITS))


# In chunks: one pattern of all 1,500 is slower, because it is tried at each character.
_CHUNK = 25


@cache
def _compiled(*, libraries: bool) -> list[re.Pattern[str]]:
    patterns = [
        entry["pattern"]
        for entry in CRAWLER_USER_AGENTS_DATA
        if (entry.get("tags", []) == ["http-library"]) is libraries
    ]
    return [re.compile("|".join(patterns[i : i + _CHUNK])) for i in range(0, len(patterns), _CHUNK)]


# WhatsApp's robot for previews, which is in the list, sends WhatsApp/<version> <platform>. Its desktop app is a
# browser, and says so first.
_WHATSAPP_APP: Final = re.compile(r"(Mozilla/5\.0 \([^)]*\) .*)\bWhatsApp/")


@lru_cache(maxsize=8_192)
def _kind_of_agent(agent: str) -> str:
    agent = _WHATSAPP_APP.sub(r"\1", agent)
    if any(pattern.search(agent) for pattern in _compiled(libraries=False)):
        return "crawler"
    if not agent.strip() or any(pattern.search(agent) for pattern in _compiled(libraries=True)):
        return "library"
    return ""
