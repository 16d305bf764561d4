"""What a token says of its user, so that requests need no row: written at login and refresh, read at each request."""

from __future__ import annotations

import hmac
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any, Final, TypeVar, cast

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractUser
from django.db.models import BigIntegerField
from rest_framework_simplejwt import tokens
from rest_framework_simplejwt.exceptions import InvalidToken, TokenError
from rest_framework_simplejwt.settings import api_settings

STAFF_CLAIM: Final = "staff"  # may edit every video
SEND_VIEWS_CLAIM: Final = "send_views"  # may send views in batches, for viewers of its own
PASSWORD_CLAIM: Final = "password"  # changes with the password; in refresh tokens only  # noqa: S105
MAX_ID: Final = BigIntegerField.MAX_BIGINT

# {"alg":"HS256","typ":"JWT"}, as PyJWT writes it.
_HS256_HEADER: Final = b"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"

AnyToken = TypeVar("AnyToken", bound=tokens.Token)


class RefreshToken(tokens.RefreshToken):
    """A refresh token, from which access tokens are made without its PASSWORD_CLAIM."""

    no_copy_claims: Any = (*tokens.RefreshToken.no_copy_claims, PASSWORD_CLAIM)

    @classmethod
    def of(cls, user: AbstractUser) -> RefreshToken:
        """A new one for a user."""
        token = cast(RefreshToken, cls.for_user(user))
        token.describe(user)
        token[PASSWORD_CLAIM] = _password_mark(user)
        return token

    def describe(self, user: AbstractUser) -> None:
        """Write down what the user may do now."""
        rights = {STAFF_CLAIM: user.is_staff, SEND_VIEWS_CLAIM: user.has_perm("videos.send_views")}
        for claim, held in rights.items():
            self.payload.pop(claim, None)
            if held:
                self.payload[claim] = True

    @classmethod
    def renewed(cls, encoded: str) -> RefreshToken:
        """A sent refresh token, with the user's rights as they are now.

        Raises InvalidToken when it is not one of ours or has ended; when its user is gone, inactive, or has another
        password.
        """
        token, user_id = read(cls, encoded)
        user = get_user_model().objects.filter(pk=user_id, is_active=True).first()
        if user is None or token.get(PASSWORD_CLAIM) != _password_mark(user):
            raise InvalidToken("No active account found for the given token")
        token.describe(user)
        return token


def read(kind: type[AnyToken], encoded: str | bytes) -> tuple[AnyToken, int]:
    """A sent token of a kind, and the id of its user. Raises InvalidToken (401) for whatever is not one of ours."""
    try:
        token = kind(encoded)  # type: ignore[arg-type]  # its stub says Token; it takes the encoded one
        return token, _user_id(token.payload.get(api_settings.USER_ID_CLAIM))
    except TokenError as error:
        raise InvalidToken(str(error)) from error
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        # The token's header is parsed before its signature is checked, so nonsense there is anybody's.
        raise InvalidToken("Token is invalid") from error


def read_access(encoded: bytes) -> tuple[Mapping[str, Any], int]:
    """The claims of a sent access token, and the id of its user. Raises InvalidToken (401).

    A token of exactly the form that this service writes is checked here, in a sixth of the time that PyJWT and Simple
    JWT take for the same: its signature, its kind, its times. Every other one, and each doubt, is left to them.
    """
    claims = _own_claims(encoded)
    if claims is None:
        token, user = read(tokens.AccessToken, encoded)
        return token.payload, user
    try:
        return claims, _user_id(claims.get(api_settings.USER_ID_CLAIM))
    except TokenError as error:
        raise InvalidToken(str(error)) from error


def _own_claims(encoded: bytes) -> dict[str, Any] | None:
    """The claims of a good token in our own form; None where the libraries must judge."""
    asked_for_more = api_settings.AUDIENCE is not None or api_settings.ISSUER is not None
    if api_settings.ALGORITHM != "HS256" or asked_for_more:
        return None
    signed, _, signature = encoded.rpartition(b".")
    header, _, payload = signed.partition(b".")
    if header != _HS256_HEADER:
        return None
    digest = hmac.digest(api_settings.SIGNING_KEY.encode(), signed, "sha256")
    if not hmac.compare_digest(urlsafe_b64encode(digest).rstrip(b"="), signature):
        return None
    claims = json.loads(urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))  # it is signed: we wrote it
    begins, ends = claims.get("iat"), claims.get("exp")
    good = (
        claims.get(api_settings.TOKEN_TYPE_CLAIM) == tokens.AccessToken.token_type
        and type(claims.get(api_settings.JTI_CLAIM)) is str
        and type(begins) is int
        and type(ends) is int
        and begins <= time.time() < ends
        and _CLAIMS.issuperset(claims)
    )
    return claims if good else None


# What our access tokens hold, besides the names that Simple JWT's settings give.
_CLAIMS: Final = frozenset({
    *("exp", "iat", STAFF_CLAIM, SEND_VIEWS_CLAIM),
    *(api_settings.TOKEN_TYPE_CLAIM, api_settings.JTI_CLAIM, api_settings.USER_ID_CLAIM),
})  # fmt: skip


def _user_id(claim: Any) -> int:
    text = str(claim)
    if (
        type(claim) in {int, str}
        and text.isascii()
        and text.isdecimal()
        and len(text) <= 19
        and 0 < int(text) <= MAX_ID
    ):
        return int(text)
    raise TokenError("Token contained no recognizable user identification")


def _password_mark(user: AbstractUser) -> str:
    return user.get_session_auth_hash()[:16]
