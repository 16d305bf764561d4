"""Sign in and out of the session that the page uses: an HttpOnly cookie, which no script can read."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from videos import services
from videos.api.authentication import SessionAuthentication
from videos.api.base import BaseView
from videos.api.shapes import BODY_ERRORS, responses
from videos.api.signing_in import signed_in


class SessionSerializer(serializers.Serializer[Any]):
    """Name and password, for a session."""

    username = serializers.CharField()
    password = serializers.CharField(write_only=True, trim_whitespace=False, style={"input_type": "password"})


class SessionView(BaseView):
    """The session of a browser. Both calls need the CSRF token, so no other site signs a visitor in."""

    permission_classes = (AllowAny,)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check the CSRF token of anonymous callers too."""
        super().initial(request, *args, **kwargs)
        SessionAuthentication().enforce_csrf(request)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Let no cache keep the cookie."""
        response.headers["Cache-Control"] = "no-store"
        return super().finalize_response(request, response, *args, **kwargs)

    @extend_schema(
        operation_id="session_create",
        summary="Sign in with a cookie",
        description="For pages of this site: the session's cookie is HttpOnly. Other clients use tokens.",
        request=SessionSerializer,
        responses=responses({200: SessionSerializer}, *BODY_ERRORS, 401, 403, 429),
    )
    def post(self, request: Request) -> Response:
        """Begin a session."""
        serializer = SessionSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        user = signed_in(request, **serializer.validated_data)
        services.begin_session(request=request, user=user)
        return Response({"username": user.get_username()})

    @extend_schema(
        operation_id="session_delete",
        summary="Sign out of the session",
        responses=responses({204: None}, 403),
    )
    def delete(self, request: Request) -> Response:
        """End it. Repeats change nothing."""
        services.end_session(request=request)
        return Response(status=204)
