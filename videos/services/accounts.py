"""Users: who is active, what a user may do, sign-ins and their refresh tokens."""

import contextlib
import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.contrib.auth import authenticate, get_user_model, login, logout
from django.http import HttpRequest

from videos import ledger
from videos.services.database import database
from videos.services.outcomes import UserNotFound, ValueRefused

PASSWORD_MARK_CHARACTERS = 16


def active_user(*, user_id: int) -> Any:
    """The user of this id. Raises UserNotFound, also for an inactive one; Unavailable."""
    with database():
        user: Any = ledger.rows(get_user_model()).filter(pk=user_id).first()
    if user is None or not user.is_active:  # a user model need not have a column of this name
        raise UserNotFound
    return user


def has_permission(*, user: Any, permission: str) -> bool:
    """Whether an active user has a permission, such as "videos.change_video", as of now. Raises Unavailable.

    A user model need not know permissions; then no user has one.
    """
    with database():
        return hasattr(user, "has_perm") and bool(user.has_perm(permission))


def sign_in(*, request: HttpRequest, name: str, password: str) -> Any:
    """The active user of this name and password. Raises UserNotFound, Unavailable."""
    try:
        with database(patient=True), signing_in():  # hashing the password takes most of the time
            user = authenticate(request, username=name, password=password)
    except ValueRefused as error:  # the database cannot hold the name, so no user has it
        raise UserNotFound from error
    if user is None or not user.is_active:
        raise UserNotFound
    return user


def begin_session(*, request: HttpRequest, user: Any) -> None:
    """Sign a user in to the session of this browser. Raises Unavailable."""
    with database():
        login(request, user)


def end_session(*, request: HttpRequest) -> None:
    """End the session of this browser, if there is one. Raises Unavailable."""
    with database():
        logout(request)


def begin_sign_in(*, user: Any, token_id: str, expires_at: datetime) -> int:
    """Record a sign-in with the id of its first refresh token; return the sign-in's id. Raises Unavailable."""
    mark = _mark(user.get_session_auth_hash())
    with database():
        return ledger.begin_sign_in(user.pk, newest=token_id, password=mark, expires_at=expires_at)


def renew_sign_in(*, family: int, user: Any, used: str, token_id: str, expires_at: datetime) -> bool:
    """Whether this refresh token of a sign-in is unused and the password unchanged; then `token_id` is the next.

    If not, the sign-in has ended. Raises Unavailable.
    """
    # The hash depends on SECRET_KEY: hashes with an older key stay valid.
    hashes = (user.get_session_auth_hash(), *user.get_session_auth_fallback_hash())
    with database():
        return ledger.rotate_sign_in(
            *(family, user.pk), used=used, newest=token_id, passwords={*map(_mark, hashes)}, expires_at=expires_at
        )


def sign_out(*, family: int, user_id: int) -> None:
    """End a sign-in; it may have ended. Raises Unavailable."""
    with database():
        ledger.end_sign_in(family, user_id)


class _SigningIn(threading.local):
    active = False


_signing_in = _SigningIn()


@contextlib.contextmanager
def signing_in() -> Iterator[None]:
    """Around a check of a password: Django may write a stronger hash of the same password, which signs nobody out."""
    _signing_in.active = True
    try:
        yield
    finally:
        _signing_in.active = False


def keep_sign_ins(*, user: Any, using: str) -> None:
    """Keep the sign-ins of a user whose password is being hashed anew, while the row has the old hash still."""
    if not _signing_in.active or using != ledger.alias():
        return
    before = ledger.rows(get_user_model()).filter(pk=user.pk).first()
    if before is not None:
        old, new = (_mark(each.get_session_auth_hash()) for each in (before, user))
        ledger.keep_sign_ins(user.pk, old=old, new=new)


def _mark(session_hash: str) -> str:
    return session_hash[:PASSWORD_MARK_CHARACTERS]
