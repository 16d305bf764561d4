"""Sign in, and get the next access token."""

from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from videos import services
from videos.api.authentication import CHALLENGE
from videos.api.base import BaseView
from videos.api.shapes import BODY_ERRORS, responses
from videos.api.throttling import ScopeThrottle
from videos.api.tokens import RefreshToken, renew


class TokenSerializer(serializers.Serializer[Any]):
    """Name and password."""

    username = serializers.CharField(write_only=True)
    password = serializers.CharField(write_only=True, trim_whitespace=False, style={"input_type": "password"})

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Make both tokens. Raises AuthenticationFailed."""
        request, name = self.context["request"], attrs["username"]
        try:
            user = services.sign_in(request=request, name=name, password=attrs["password"])
        except services.UserNotFound as error:
            detail = "No active account found with the given credentials"
            raise AuthenticationFailed(detail, "no_active_account") from error
        refresh = RefreshToken.of(user)
        return {"access": str(refresh.access_token), "refresh": str(refresh)}


class TokenPairSerializer(serializers.Serializer[Any]):
    """A token for requests, and one to get the next with."""

    access = serializers.CharField()
    refresh = serializers.CharField()


class RefreshSerializer(serializers.Serializer[Any]):
    """A refresh token, for an access token that says what its user may do now."""

    refresh = serializers.CharField(write_only=True)
    access = serializers.CharField(read_only=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Make the access token. Raises InvalidToken."""
        return {"access": str(renew(attrs["refresh"]))}


class _TokensView(BaseView, GenericAPIView[Any]):
    """The base of both views. Everyone may call them; an Authorization header is ignored."""

    authentication_classes = ()
    permission_classes = ()
    throttle_classes = (ScopeThrottle,)
    throttle_scope = "token"

    def get_authenticate_header(self, request: Request) -> str:
        return CHALLENGE

    def post(self, request: Request) -> Response:
        """Return the tokens. Raises AuthenticationFailed."""
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        return Response(serializer.validated_data)


@extend_schema_view(
    post=extend_schema(
        operation_id="token",
        summary="Sign in",
        responses=responses({200: TokenPairSerializer}, *BODY_ERRORS, 401, 429),
    )
)
class TokenView(_TokensView):
    """Name and password for an access token, which requests carry, and a refresh token."""

    serializer_class = TokenSerializer


@extend_schema_view(
    post=extend_schema(
        operation_id="token_refresh",
        summary="Get the next access token",
        responses=responses({200: RefreshSerializer}, *BODY_ERRORS, 401, 429),
    )
)
class RefreshView(_TokensView):
    """A refresh token for an access token, while its user is active and keeps the password."""

    serializer_class = RefreshSerializer
