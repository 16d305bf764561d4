"""Who is calling: a token that tells all that requests need to know, or a session."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.plumbing import build_bearer_security_scheme_object
from rest_framework import authentication
from rest_framework.request import Request
from rest_framework_simplejwt.authentication import JWTStatelessUserAuthentication
from rest_framework_simplejwt.exceptions import InvalidToken
from rest_framework_simplejwt.settings import api_settings

from videos import tokens


class TokenUser:
    """A user as the token describes it; no row was read."""

    __slots__ = ("expires", "id", "is_staff", "may_send_views")

    is_active = True
    is_anonymous = False
    is_authenticated = True

    def __init__(self, *, user: int, is_staff: bool, may_send_views: bool, expires: float) -> None:
        self.id = user
        self.is_staff = is_staff
        self.may_send_views = may_send_views
        self.expires = expires  # Unix seconds

    @property
    def pk(self) -> int:
        """The user's id, under the name that Django gives it."""
        return self.id

    def has_perm(self, perm: str, obj: object = None) -> bool:
        """Whether the token carries a permission; it carries one at most."""
        return self.may_send_views and perm == "videos.send_views"

    def __str__(self) -> str:
        return f"user {self.id}"


class TokenAuthentication(JWTStatelessUserAuthentication):
    """`Authorization: Bearer <access token>`, checked without a query.

    The token itself says who the user is and what the user may do, so deleting, deactivating or demoting a user takes
    effect when the access token ends (SIMPLE_JWT["ACCESS_TOKEN_LIFETIME"]); refreshing one asks the database.
    """

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        """The token's user, None without a token. Raises InvalidToken (401)."""
        header = request.META.get("HTTP_AUTHORIZATION")
        user = user_of(header) if header else None
        return None if user is None else (user, None)


def user_of(header: str) -> TokenUser | None:
    """The user of an Authorization header, None where it is of another kind. Raises InvalidToken (401)."""
    raw = _TOKENS.get_raw_token(header.encode("latin-1", "replace"))
    if raw is None:
        return None
    user = _verified(raw, api_settings.SIGNING_KEY)
    if user.expires <= time.time():
        raise InvalidToken("Token is expired")
    return user


_TOKENS = TokenAuthentication()


# Whether a signature fits never changes, so it is worked out once for each token; its end is compared at each request.
@lru_cache(maxsize=8_192)
def _verified(raw: bytes, key: str) -> TokenUser:
    claims, user = tokens.read_access(raw)
    return TokenUser(
        user=user,
        is_staff=claims.get(tokens.STAFF_CLAIM) is True,
        may_send_views=claims.get(tokens.SEND_VIEWS_CLAIM) is True,
        expires=float(claims["exp"]),
    )


class SessionAuthentication(authentication.SessionAuthentication):
    """Django's session, looked up where the client sends one only."""

    def authenticate(self, request: Request) -> tuple[Any, None] | None:
        """The session's user, None without a session. Raises PermissionDenied where the CSRF token is missing."""
        if settings.SESSION_COOKIE_NAME not in request.COOKIES:
            return None
        return super().authenticate(request)


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Tells the schema of TokenAuthentication."""

    target_class = "videos.authentication.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        """A bearer token in JWT's form."""
        return build_bearer_security_scheme_object("Authorization", "Bearer", bearer_format="JWT")


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Tells the schema of SessionAuthentication."""

    target_class = "videos.authentication.SessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        """Django's session cookie."""
        return {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME}
