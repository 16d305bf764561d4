"""Views of videos: one as its player reports it, or a batch of them."""

from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request

from videos import services
from videos.api import shapes
from videos.api.answers import json_answer
from videos.api.authentication import SessionAuthentication, TokenAuthentication
from videos.api.base import BaseView, require
from videos.api.bodies import BeaconParser, StrictJSONParser, parse_events
from videos.api.errors import render
from videos.changes import MAX_ID


class ViewView(BaseView):
    """Views of a video."""

    address = "view"
    parser_classes = (StrictJSONParser, BeaconParser)
    permission_classes = (AllowAny,)

    def get_authenticators(self) -> list[BaseAuthentication]:
        """A beacon cannot carry a CSRF token, and a view needs no session."""
        return [TokenAuthentication(), SessionAuthentication(optional=True)]

    @extend_schema(
        operation_id="view",
        summary="Count a view",
        description=(
            "Counts once for a viewer in a window. `reason` is `new` where it counted, else why it did not: `seen` in "
            "this window, a `bot`, too `short`, the `owner`, too many from one `address`, or `full`: no memory is left "
            "just now for views of those who are not signed in. JSON may be sent as text/plain, as "
            "`navigator.sendBeacon` does. A page of another site is refused, unless CORS allows it."
        ),
        request=shapes.ViewSerializer,
        responses=shapes.responses({200: shapes.ViewResultSerializer}, *shapes.BODY_ERRORS, 401, 403, 404, 429),
    )
    def post(self, request: Request, video: int) -> HttpResponse:
        """Count it, or say why not."""
        return self.operate(request, video)


class ViewsView(BaseView):
    """Views that a trusted client gathered: a player's backend, an importer."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(
        operation_id="views",
        summary="Count up to 1,000 views",
        description=(
            "For users with the permission videos.send_views. They speak for others, so neither their "
            "address nor their user agent matters. Views of videos that do not exist are ignored as `absent`, and all "
            "that are new as `full` while there is no memory for them: send them again later, with `at`. Sent again "
            "after a 503, what had counted is `seen`."
        ),
        request=shapes.ViewEventsSerializer,
        responses=shapes.responses({200: shapes.ViewSumsSerializer}, *shapes.BODY_ERRORS, 401, 403),
    )
    def post(self, request: Request) -> HttpResponse:
        """Count them in one round trip."""
        require(request, "videos.send_views")
        sent = parse_events(request.data)
        events = [event for event in sent if 0 < event.video_id <= MAX_ID]
        sums = services.record_views(events=events) if events else services.ViewSums(0, {})
        if len(events) < len(sent):
            absent = sums.ignored.get("absent", 0) + len(sent) - len(events)
            sums = sums._replace(ignored={**sums.ignored, "absent": absent})
        data: dict[str, Any] = {"counted": sums.counted, "ignored": sums.ignored}
        return render(json_answer(data, stored=sums.stored))
