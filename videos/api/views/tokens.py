"""Sign in, and get the next access token."""

from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from videos.api.authentication import CHALLENGE
from videos.api.base import BaseView
from videos.api.shapes import ANY_TEXT, BODY_ERRORS, SOME_TEXT, responses
from videos.api.signing_in import signed_in
from videos.api.throttling import ScopeThrottle
from videos.api.tokens import RefreshToken, renew, revoke


class TokenSerializer(serializers.Serializer[Any]):
    """Name and password."""

    username = serializers.CharField(write_only=True, validators=[SOME_TEXT])
    password = serializers.CharField(
        write_only=True, trim_whitespace=False, style={"input_type": "password"}, validators=[ANY_TEXT]
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Make both tokens. Raises AuthenticationFailed, Throttled, Busy."""
        return _pair(RefreshToken.of(signed_in(self.context["request"], **attrs)))


class TokenPairSerializer(serializers.Serializer[Any]):
    """A token for requests, and one to get the next with."""

    access = serializers.CharField()
    refresh = serializers.CharField()


class RefreshSerializer(serializers.Serializer[Any]):
    """A refresh token, for an access token and the next refresh token."""

    refresh = serializers.CharField(write_only=True, validators=[SOME_TEXT])

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Make both tokens. Raises InvalidToken."""
        return _pair(renew(attrs["refresh"]))


class RevokeSerializer(serializers.Serializer[Any]):
    """A refresh token, whose sign-in ends."""

    refresh = serializers.CharField(write_only=True, validators=[SOME_TEXT])

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """End it. Raises InvalidToken."""
        revoke(attrs["refresh"])
        return {}


def _pair(refresh: RefreshToken) -> dict[str, Any]:
    return {"access": str(refresh.access_token), "refresh": str(refresh)}


class _TokensView(BaseView, GenericAPIView[Any]):
    """The base of both views. Everyone may call them; an Authorization header is ignored."""

    authentication_classes = ()
    permission_classes = ()
    throttle_classes: Any = (ScopeThrottle,)
    throttle_scope = "token"

    def get_authenticate_header(self, request: Request) -> str:
        return CHALLENGE

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Let no cache keep a token."""
        response.headers["Cache-Control"] = "no-store"
        return super().finalize_response(request, response, *args, **kwargs)

    def post(self, request: Request) -> Response:
        """Return the tokens. Raises AuthenticationFailed."""
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        return Response(serializer.validated_data)


@extend_schema_view(
    post=extend_schema(
        operation_id="token",
        summary="Sign in",
        responses=responses({200: TokenPairSerializer}, *BODY_ERRORS, 401, 429, 503),
    )
)
class TokenView(_TokensView):
    """Name and password for an access token, which requests carry, and a refresh token."""

    throttle_classes = ()  # `guarded` counts the address and the account at once
    serializer_class = TokenSerializer


@extend_schema_view(
    post=extend_schema(
        operation_id="token_refresh",
        summary="Get the next access token",
        description="A refresh token works once: keep the one that comes back. Used again, it ends the sign-in.",
        responses=responses({200: TokenPairSerializer}, *BODY_ERRORS, 401, 429),
    )
)
class RefreshView(_TokensView):
    """A refresh token for the next two tokens, while its user is active, keeps the password and has not signed out."""

    serializer_class = RefreshSerializer


@extend_schema_view(
    post=extend_schema(
        operation_id="token_revoke",
        summary="Sign out",
        description="Access tokens that were issued already stay valid until they expire.",
        responses=responses({204: None}, *BODY_ERRORS, 401, 429),
    )
)
class RevokeView(_TokensView):
    """End the sign-in of a refresh token."""

    serializer_class = RevokeSerializer

    def post(self, request: Request) -> Response:
        """Sign out. Repeats change nothing."""
        self.get_serializer(data=request.data).is_valid(raise_exception=True)
        return Response(status=204)
