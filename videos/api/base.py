"""The base of the API's views, and the caller's rights as of now."""

from collections.abc import Callable
from typing import Any, ClassVar, Final

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.exceptions import NotAuthenticated, PermissionDenied, ValidationError
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from videos import services
from videos.api import operations
from videos.api.authentication import SessionAuthentication, TokenAuthentication
from videos.api.bodies import StrictJSONParser
from videos.api.errors import exception_handler, render
from videos.api.frames import PROBE, ProbeResponse
from videos.api.negotiation import PreparedNegotiation
from videos.changes import MAX_ID

UNKNOWN_PARAMETER: Final = "There is no such parameter."


class BaseView(APIView):
    """A view of the API. Its usual calls are operations; other calls are its own methods.

    The express lane answers the same calls without Django REST framework, so nothing here depends on REST_FRAMEWORK.
    """

    authentication_classes: Any = (TokenAuthentication, SessionAuthentication)
    content_negotiation_class = PreparedNegotiation
    parser_classes: Any = (StrictJSONParser,)
    renderer_classes: Any = (JSONRenderer,)
    throttle_classes: Any = ()
    versioning_class = None
    address: ClassVar[str]  # of the operations that answer its usual calls
    pagination_class: Any = None  # a KeysetPagination
    query_parameters: ClassVar[frozenset[str]] = frozenset()  # those beside the parameters of pages

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        return services.own_transactions(super().as_view(**initkwargs))

    def get_exception_handler(self) -> Callable[..., Any]:
        return exception_handler

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer a request. A probe of `frames` gets the headers only."""
        if request.META.get(PROBE) == PROBE:
            return ProbeResponse(content_type="application/json", headers=self.default_response_headers)
        return super().dispatch(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check permissions, throttles and names of query parameters. An id that no row can have is not found."""
        if kwargs.get("video", 0) > MAX_ID:
            raise services.VideoNotFound
        super().initial(request, *args, **kwargs)
        unknown = sorted(request.query_params.keys() - self._parameters())
        if unknown:
            raise ValidationError({name: [UNKNOWN_PARAMETER] for name in unknown})

    def _parameters(self) -> frozenset[str]:
        pages = self.pagination_class
        paged = {pages.cursor_query_param, pages.page_size_query_param} if pages else frozenset()
        return self.query_parameters | paged

    def operate(self, request: Request, video_id: int = 0) -> HttpResponse:
        """Answer a usual call, as the express lane does."""
        method = "GET" if request.method == "HEAD" else str(request.method)
        call = operations.Call(
            meta=request.META,
            user_id=user_id_of(request),
            video_id=video_id,
            query=request.query_params,
            uri=request.build_absolute_uri(),
            data=lambda: request.data,
        )
        return render(operations.run(operations.OPERATIONS[method, self.address], call))


def user_id_of(request: Request) -> int | None:
    """The caller's id, None for an anonymous one."""
    user: Any = request.user  # None if UNAUTHENTICATED_USER says so
    return user.pk if user and user.is_authenticated else None


def throttle(request: Request, scope: str) -> None:
    """Count a request, of whatever method. Raises Throttled beyond the rate of the scope."""
    operations.throttle(scope, user_id_of(request), request.META)


def require(request: Request, permission: str, *, owner_id: int | None = None) -> None:
    """Raise PermissionDenied unless the signed-in caller has this permission, or owns what it is about, as of now.

    The user's row is read, because a token may be an hour old. Raises NotAuthenticated, and UserNotFound
    (401) if the user is gone or inactive.
    """
    user_id = user_id_of(request)
    if user_id is None:
        raise NotAuthenticated
    user = services.active_user(user_id=user_id)
    if user.pk != owner_id and not services.has_permission(user=user, permission=permission):
        raise PermissionDenied
