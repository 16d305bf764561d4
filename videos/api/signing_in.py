"""Signing in with a password, at the API's door and at the admin's: how often, how many at once, and what is logged.

A check of a password takes a third of a second of CPU by design. So a process does VIDEOS_SIGN_INS_AT_ONCE of them at a
time, as many more wait, and all others are told to come back: guesses must not hold the threads that answer reads.
"""

import contextlib
import logging
import math
import threading
import unicodedata
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

from rest_framework.exceptions import APIException, AuthenticationFailed, Throttled

from videos import services
from videos.api import throttling, viewers
from videos.conf import conf

WAIT_SECONDS: Final = 2.0  # of a sign-in for its turn
NAME_CHARACTERS: Final = 150  # of a name that a log shows and a throttle tells apart

logger = logging.getLogger("django.security.videos")


class Busy(APIException):
    """Others are signing in; try again in a moment."""

    status_code = 503
    default_detail = __doc__
    default_code = "busy"

    @property
    def wait(self) -> int:
        """Seconds, for Retry-After."""
        return conf.RETRY_AFTER_SECONDS


@contextlib.contextmanager
def guarded(meta: Mapping[str, Any], name: str) -> Iterator[None]:
    """Around a check of this account's password. Raises Throttled (429) and Busy (503)."""
    wait = throttling.wait_seconds_of({"token": viewers.client_site(meta), "account": account_of(name)})
    if wait is not None:
        logger.warning("Sign-in to %r from %s was refused: too many", shown(name), viewers.client_address(meta))
        raise Throttled(math.ceil(wait))
    entrance, turns = _places(conf.SIGN_INS_AT_ONCE)
    with _held(entrance, 0), _held(turns, WAIT_SECONDS), services.signing_in():
        yield


def signed_in(request: Any, *, username: str, password: str) -> Any:
    """The user of this name and password. Raises AuthenticationFailed, Throttled, Busy."""
    try:
        with guarded(request.META, username):
            return services.sign_in(request=request, name=username, password=password)
    except services.UserNotFound as error:
        detail = "No active account found with the given credentials"
        raise AuthenticationFailed(detail, "no_active_account") from error


@contextlib.contextmanager
def _held(places: threading.Semaphore, seconds: float) -> Iterator[None]:
    if not places.acquire(blocking=bool(seconds), timeout=seconds or None):
        raise Busy
    try:
        yield
    finally:
        places.release()


@cache
def _places(at_once: int) -> tuple[threading.Semaphore, threading.Semaphore]:
    """Places at the entrance, where as many more wait as may sign in; and for those who sign in."""
    return threading.BoundedSemaphore(2 * at_once), threading.BoundedSemaphore(at_once)


def account_of(name: str) -> str:
    """The account of a name, for throttles: a database may take names for equal that differ in case and accents."""
    parts = unicodedata.normalize("NFKD", name.strip()[:NAME_CHARACTERS]).casefold()
    return "".join(part for part in parts if not unicodedata.combining(part))


def shown(name: Any) -> str:
    """A name as a log shows it."""
    return str(name)[:NAME_CHARACTERS]


def log_failed_sign_in(credentials: Mapping[str, Any], request: Any) -> None:
    """Log whose password was guessed, from where. A password is never logged."""
    name = next((value for key, value in credentials.items() if "password" not in key), "")
    address = "" if request is None else viewers.client_address(request.META)
    logger.warning("Sign-in to %r from %s failed", shown(name), address)
