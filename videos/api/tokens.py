"""Access tokens, which requests carry, and refresh tokens, which fetch the next access token; PyJWT signs both.

An access token names its user, so that a like or a view reads no row. Only PyJWT makes and
verifies tokens: docs/adr/0020-tokens-by-pyjwt.md.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
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
FAMILY_CLAIM: Final = "family"  # the sign-in that a refresh token belongs to
_CLAIMS: Final = frozenset({KIND_CLAIM, "exp", "iat", "jti", USER_CLAIM, FAMILY_CLAIM})
_HS256: Final = jwt.get_algorithm_by_name(ALGORITHM)
_HEADER: Final = jwt.encode({}, "-" * 32, algorithm=ALGORITHM).partition(".")[0]

logger = logging.getLogger("django.security.videos")


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
        return jwt.encode(self.claims, signing_keys()[0], algorithm=ALGORITHM)


class AccessToken(Token):
    """Names a user to requests until it expires. It holds no rights: calls that need one read the user's row."""

    @classmethod
    def of(cls, user: AbstractUser) -> Self:
        """A token of this user."""
        return cls(ACCESS, conf.TOKEN_MINUTES * 60, {USER_CLAIM: str(user.pk)})


class RefreshToken(Token):
    """Fetches an access token and the next refresh token, once, while its sign-in lasts."""

    @classmethod
    def of(cls, user: AbstractUser) -> Self:
        """The first token of a new sign-in. Raises Unavailable."""
        token = cls(REFRESH, conf.REFRESH_TOKEN_DAYS * DAY_SECONDS, {USER_CLAIM: str(user.pk)})
        family = services.begin_sign_in(user=user, token_id=token.claims["jti"], expires_at=token.expires_at)
        token.claims[FAMILY_CLAIM] = family
        return token

    @property
    def access_token(self) -> AccessToken:
        """An access token of the same user."""
        return AccessToken(ACCESS, conf.TOKEN_MINUTES * 60, {USER_CLAIM: self.claims[USER_CLAIM]})

    @property
    def expires_at(self) -> datetime:
        """When nobody takes it any more."""
        return datetime.fromtimestamp(self.claims["exp"] + LEEWAY_SECONDS, UTC)


def renew(encoded: str) -> RefreshToken:
    """The refresh token that takes the place of this one.

    Raises Unavailable; InvalidToken, also if the user is gone, is inactive, has signed out or changed the password. A
    token that was used before ends its sign-in: one of the two who have it has stolen it.
    """
    user_id, family, token_id = _refresh_claims(encoded)
    ended = InvalidToken("No active account found for the given token")
    try:
        user = services.active_user(user_id=user_id)
    except services.UserNotFound as error:
        raise ended from error
    token = RefreshToken(
        REFRESH, conf.REFRESH_TOKEN_DAYS * DAY_SECONDS, {USER_CLAIM: str(user_id), FAMILY_CLAIM: family}
    )
    if not services.renew_sign_in(
        family=family, user=user, used=token_id, token_id=token.claims["jti"], expires_at=token.expires_at
    ):
        logger.warning("A refresh token of user %s was used again, or after a sign-out or a new password", user_id)
        raise ended
    return token


def revoke(encoded: str) -> None:
    """End the sign-in of this refresh token. Raises InvalidToken, Unavailable."""
    user_id, family, _ = _refresh_claims(encoded)
    services.sign_out(family=family, user_id=user_id)


def _refresh_claims(encoded: str) -> tuple[int, int, str]:
    """User, sign-in and id of a refresh token. Raises InvalidToken."""
    claims, user_id = verify(encoded, kind=REFRESH, keys=signing_keys())
    family, token_id = claims.get(FAMILY_CLAIM), claims["jti"]
    if type(family) is not int or not 0 < family <= MAX_ID or type(token_id) is not str:
        raise InvalidToken
    return user_id, family, token_id


@cache
def signing_keys() -> tuple[str, ...]:
    """The key that signs new tokens, then the older ones, whose tokens are still accepted.

    Cached because each access to Django's settings costs a third of a microsecond.
    """
    if conf.JWT_SIGNING_KEY:
        return (conf.JWT_SIGNING_KEY, *conf.JWT_SIGNING_KEY_FALLBACKS)
    return (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS, *conf.JWT_SIGNING_KEY_FALLBACKS)


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
