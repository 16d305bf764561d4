"""Access tokens, which requests carry, and refresh tokens, which fetch the next access token; PyJWT signs both.

An access token holds all that a request needs to know of its user, so that no row is read. Only PyJWT makes and
verifies tokens: docs/adr/0020-tokens-by-pyjwt.md.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import cache
from typing import Any, Final, Self
from uuid import uuid4

import jwt
from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.core.signals import setting_changed
from django.dispatch import receiver
from django.utils.crypto import constant_time_compare
from jwt.utils import base64url_decode, base64url_encode
from rest_framework.exceptions import AuthenticationFailed

from videos import services
from videos.changes import DAY_SECONDS, MAX_ID, VideosError
from videos.conf import conf

ALGORITHM: Final = "HS256"
LEEWAY_SECONDS: Final = 10  # how far the clocks of two servers may differ
ACCESS: Final = "access"
REFRESH: Final = "refresh"
KIND_CLAIM: Final = "token_type"
USER_CLAIM: Final = "user_id"
STAFF_CLAIM: Final = "staff"  # may edit every video
SEND_VIEWS_CLAIM: Final = "send_views"  # may send views in batches, for viewers of its own
PASSWORD_CLAIM: Final = "password"  # changes with the password; in refresh tokens only  # noqa: S105
_ACCESS_CLAIMS: Final = (USER_CLAIM, STAFF_CLAIM, SEND_VIEWS_CLAIM)
_CLAIMS: Final = frozenset({KIND_CLAIM, "exp", "iat", "jti", PASSWORD_CLAIM, *_ACCESS_CLAIMS})
_HS256: Final = jwt.get_algorithm_by_name(ALGORITHM)
_HEADER: Final = jwt.encode({}, "-" * 32, algorithm=ALGORITHM).partition(".")[0]


class InvalidToken(VideosError, AuthenticationFailed):
    """Token is invalid"""

    def __init__(self, reason: str | None = None) -> None:
        AuthenticationFailed.__init__(self, {"detail": reason or self.__doc__, "code": "token_not_valid"})


class Token:
    """A new token; `str` signs it."""

    def __init__(self, kind: str, seconds: float, claims: dict[str, Any]) -> None:
        now = int(time.time())
        self.claims = {KIND_CLAIM: kind, "exp": now + int(seconds), "iat": now, "jti": uuid4().hex, **claims}

    def __str__(self) -> str:
        return jwt.encode(self.claims, settings.SECRET_KEY, algorithm=ALGORITHM)


class RefreshToken(Token):
    """Fetches access tokens until it expires or its user changes the password."""

    @classmethod
    def of(cls, user: AbstractUser) -> Self:
        """A token with this user's rights now."""
        rights = {STAFF_CLAIM: is_staff(user), SEND_VIEWS_CLAIM: may_send_views(user)}
        claims = {
            USER_CLAIM: str(user.pk),
            PASSWORD_CLAIM: _short(user.get_session_auth_hash()),
            **{claim: True for claim, held in rights.items() if held},
        }
        return cls(REFRESH, conf.REFRESH_TOKEN_DAYS * DAY_SECONDS, claims)

    @property
    def access_token(self) -> Token:
        """A new access token of the same user."""
        claims: dict[str, Any] = {claim: self.claims[claim] for claim in _ACCESS_CLAIMS if claim in self.claims}
        return Token(ACCESS, conf.TOKEN_MINUTES * 60, claims)


def is_staff(user: Any) -> bool:
    """Whether the user may edit every video. A user model need not have this column."""
    return bool(getattr(user, "is_staff", False))


def may_send_views(user: Any) -> bool:
    """Whether the user has the permission to send views in batches. A user model need not know permissions."""
    return hasattr(user, "has_perm") and bool(user.has_perm("videos.send_views"))


def renew(encoded: str) -> Token:
    """A new access token for the user of this refresh token, with the user's rights now.

    Raises InvalidToken, also if the user is gone, is inactive, or has changed the password.
    """
    claims, user_id = verify(encoded, kind=REFRESH, keys=signing_keys())
    try:
        user = services.active_user(user_id=user_id)
    except services.UserNotFound as error:
        raise InvalidToken("No active account found for the given token") from error
    # The hash depends on SECRET_KEY: hashes with an older key stay valid.
    hashes = (user.get_session_auth_hash(), *user.get_session_auth_fallback_hash())
    if claims.get(PASSWORD_CLAIM) not in {_short(each) for each in hashes}:
        raise InvalidToken("No active account found for the given token")
    return RefreshToken.of(user).access_token


@cache
def signing_keys() -> tuple[str, ...]:
    """The key that signs new tokens, then the older ones, whose tokens are still accepted.

    Cached because each access to Django's settings costs a third of a microsecond.
    """
    return (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)


@receiver(setting_changed, dispatch_uid="videos.api.tokens")
def _forget_keys(**_: Any) -> None:
    signing_keys.cache_clear()


def verify(encoded: str, *, kind: str, keys: Sequence[str]) -> tuple[dict[str, Any], int]:
    """The claims of a token of this kind that one of the keys has signed, and its user's id. Raises InvalidToken."""
    claims = _claims_as_issued(encoded, keys) or _verified_claims(encoded, keys)
    if claims.get(KIND_CLAIM) != kind:
        raise InvalidToken("Token has wrong type")
    return claims, _user_id(claims.get(USER_CLAIM))


def _claims_as_issued(encoded: str, keys: Sequence[str]) -> dict[str, Any] | None:
    """The claims of a token in the form that `Token` gives it, still current; None for any other token.

    `jwt.decode` accepts all of these, but it looks at each character in Python, which takes four times as long as the
    rest. Here PyJWT's signature comes first, and only what is signed is parsed.
    """
    signed, _, signature = encoded.rpartition(".")
    header, _, payload = signed.partition(".")
    try:
        if header != _HEADER or not any(constant_time_compare(_signature(signed, key), signature) for key in keys):
            return None
        claims = json.loads(base64url_decode(payload))
    except (jwt.PyJWTError, ValueError):
        return None
    if type(claims) is not dict or not claims.keys() <= _CLAIMS or type(claims.get("jti")) is not str:
        return None
    issued, expires, now = claims.get("iat"), claims.get("exp"), time.time()
    if type(issued) is not int or type(expires) is not int:
        return None
    return claims if issued - LEEWAY_SECONDS <= now < expires + LEEWAY_SECONDS else None


def _signature(signed: str, key: str) -> bytes:
    return base64url_encode(_HS256.sign(signed.encode(), _prepared(key)))


@cache
def _prepared(key: str) -> Any:
    return _HS256.prepare_key(key)


def _verified_claims(encoded: str, keys: Sequence[str]) -> dict[str, Any]:
    for key in keys:
        try:
            return jwt.decode(
                encoded,
                key,
                algorithms=[ALGORITHM],
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "jti"], "verify_aud": False},
            )
        except jwt.InvalidSignatureError:
            continue
        except jwt.ExpiredSignatureError as error:
            raise InvalidToken("Token is expired") from error
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            # PyJWT parses the header before it checks the signature, so a client may send anything there.
            raise InvalidToken from error
    raise InvalidToken


def _user_id(claim: Any) -> int:
    text = str(claim)
    if type(claim) in {int, str} and text.isascii() and text.isdecimal() and len(text) <= 19:
        user_id = int(text)
        if 0 < user_id <= MAX_ID:
            return user_id
    raise InvalidToken("Token contained no recognizable user identification")


def _short(session_hash: str) -> str:
    return session_hash[:16]
