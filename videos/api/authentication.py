"""Authentication: by an access token, which holds all that a request needs to know of its user, or by a session."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.plumbing import build_bearer_security_scheme_object
from rest_framework import authentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.request import Request

from videos.api import tokens

TOKENS_REMEMBERED = 16_384
HEADER_CHARACTERS = 1000  # of the longest one that is remembered; our own have 300
CHALLENGE = 'Bearer realm="api"'  # the WWW-Authenticate header of a 401


class TokenUser:
    """A user as an access token names it, without a row. `base.require` reads the row."""

    __slots__ = ("id", "valid_until")

    is_active = True
    is_anonymous = False
    is_authenticated = True

    def __init__(self, *, user_id: int, valid_until: float) -> None:
        self.id = user_id
        self.valid_until = valid_until  # Unix seconds

    @property
    def pk(self) -> int:
        """The user's id, under the name that Django gives it."""
        return self.id

    def __str__(self) -> str:
        return f"user {self.id}"


class TokenAuthentication(authentication.BaseAuthentication):
    """`Authorization: Bearer <access token>`, checked without a query.

    The token names the user and says nothing else. A user who is deleted or deactivated may go on to like, to view and
    to read until the access token expires (TOKEN_MINUTES). Calls that change a video, and batches of views, read the
    user's row.
    """

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        """The token's user, None without a token. Raises InvalidToken (401)."""
        header = request.META.get("HTTP_AUTHORIZATION")
        user = user_of(header) if header else None
        return None if user is None else (user, None)

    def authenticate_header(self, request: Request) -> str:
        return CHALLENGE


def user_of(header: str) -> TokenUser | None:
    """The user of an Authorization header, None for another scheme. Raises AuthenticationFailed (401)."""
    if not header.startswith("Bearer"):
        return None
    # A long header would stay in the cache: clients pad a token with spaces.
    verify = _verified_user if len(header) <= HEADER_CHARACTERS else _verified_user.__wrapped__
    user = verify(header, tokens.signing_keys())
    if user is not None and user.valid_until <= time.time():
        raise tokens.InvalidToken("Token is expired")
    return user


# A signature stays valid, so each token is verified once and remembered; `user_of` compares its expiry each time.
@lru_cache(maxsize=TOKENS_REMEMBERED)
def _verified_user(header: str, keys: tuple[str, ...]) -> TokenUser | None:
    scheme, *values = header.split() or [""]
    if scheme != "Bearer":
        return None
    if len(values) != 1:
        detail = "Authorization header must contain two space-delimited values"
        raise AuthenticationFailed({"detail": detail, "code": "bad_authorization_header"})
    claims, user_id = tokens.verify(values[0], kind=tokens.ACCESS, keys=keys)
    return TokenUser(
        user_id=user_id,
        valid_until=int(claims["exp"]) + tokens.LEEWAY_SECONDS,
    )


class SessionAuthentication(authentication.SessionAuthentication):
    """Django's session, looked up only when the client sends its cookie.

    `optional`: for calls that anonymous callers may make. A session without its CSRF token is then not used, instead of
    refused: the cookie of an admin's session must not have them refused.
    """

    def __init__(self, *, optional: bool = False) -> None:
        self._optional = optional

    def authenticate(self, request: Request) -> tuple[Any, None] | None:
        """The session's user, None without a session. Raises PermissionDenied where the CSRF token is missing."""
        if settings.SESSION_COOKIE_NAME not in request.COOKIES:
            return None
        try:
            return super().authenticate(request)
        except PermissionDenied:
            if self._optional:
                return None
            raise


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Describes TokenAuthentication in the OpenAPI schema."""

    target_class = "videos.api.authentication.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return build_bearer_security_scheme_object("Authorization", "Bearer", bearer_format="JWT")


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Describes SessionAuthentication in the OpenAPI schema."""

    target_class = "videos.api.authentication.SessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME}
