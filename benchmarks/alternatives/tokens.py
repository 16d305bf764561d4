"""The tokens of the alternatives: verified by PyJWT once, then remembered, without a query, as this service does."""

import time
from functools import lru_cache

import jwt
from django.conf import settings
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

TOKENS_REMEMBERED = 16_384


class TokenUser:
    """A user as the token describes it; no row was read."""

    is_authenticated = True

    def __init__(self, user_id: int, valid_until: float) -> None:
        self.id = user_id
        self.valid_until = valid_until  # Unix seconds


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer <token>`."""

    def authenticate(self, request: Request) -> tuple[TokenUser, str] | None:
        """The user of a valid token; None without a token."""
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind != "Bearer":
            return None
        try:
            user = _verify(token)
        except jwt.InvalidTokenError as error:
            raise AuthenticationFailed from error
        if user.valid_until < time.time():
            raise AuthenticationFailed
        return user, token


@lru_cache(maxsize=TOKENS_REMEMBERED)
def _verify(token: str) -> TokenUser:
    claims = jwt.decode(token, settings.SECRET_KEY, algorithms=["HS256"])
    return TokenUser(int(claims["user_id"]), claims["exp"])
