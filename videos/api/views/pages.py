"""Answers outside of the API's views: the schema and its page, a missing slash, Django's errors."""

import sys
import threading
from functools import cache
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponsePermanentRedirect
from django.urls import Resolver404, is_valid_path
from django.utils.encoding import force_bytes
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from videos.api.answers import json_answer
from videos.api.bodies import LengthRequired
from videos.api.errors import FAULT, answer_of, error_data, render
from videos.api.frames import api_root

_READ_ONLY: list[str] = ["get", "head"]  # the page has no template for OPTIONS


class SchemaView(SpectacularAPIView):
    """The OpenAPI schema, for everyone. The query changes nothing: a schema takes long to make."""

    http_method_names = _READ_ONLY
    authentication_classes = permission_classes = throttle_classes = ()
    versioning_class = None

    @extend_schema(exclude=True)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """The schema in the form that the client accepts."""
        renderer: Any = request.accepted_renderer
        with _schema_lock:  # one thread makes it, and the others wait for it
            body = _rendered_schema(renderer.__class__)
        response = HttpResponse(body, content_type=renderer.media_type)
        response["Content-Disposition"] = f'inline; filename="schema.{renderer.format}"'
        return response


_schema_lock = threading.Lock()


@cache
def _rendered_schema(renderer: type[BaseRenderer]) -> bytes:
    schema = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return force_bytes(renderer().render(schema, renderer_context={}))


class DocsView(SpectacularSwaggerSplitView):
    """The schema's page, for everyone."""

    http_method_names = _READ_ONLY
    authentication_classes = permission_classes = throttle_classes = ()
    versioning_class = None


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """400 outside of views: JSON under /api/, Django's page elsewhere."""
    if not _is_api(request):
        return defaults.bad_request(request, exception)
    known = answer_of(exception) if isinstance(exception, RequestDataTooBig | LengthRequired) else None
    return render(known or json_answer(error_data("Bad request.", "bad_request"), status=400))


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """404 for paths that no view has."""
    return _not_found("Not found.") if _is_api(request) else defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponseBase:
    """500, for a bug of the service; 503, if the database is away; 400, if it cannot hold a value."""
    error = sys.exc_info()[1]
    answer = answer_of(error) if isinstance(error, Exception) else None
    if answer is not None and answer.status in {400, 503}:
        return render(answer)
    return render(FAULT) if _is_api(request) else defaults.server_error(request)


@csrf_exempt
@login_not_required
def without_slash(request: HttpRequest, **_: Any) -> HttpResponseBase:
    """Redirect reads to the path with a slash. Writes get a 404: a redirect would lose method and body."""
    if not is_valid_path(f"{request.path_info}/"):
        return page_not_found(request, Resolver404())
    if request.method in {"GET", "HEAD"}:
        return HttpResponsePermanentRedirect(request.get_full_path(force_append_slash=True))
    return _not_found(f"Not found. The path ends with a slash: {request.path}/")


def _is_api(request: HttpRequest) -> bool:
    return request.path_info.startswith(api_root() or "/api/")


def _not_found(detail: str) -> HttpResponseBase:
    return render(json_answer(error_data(detail, "not_found"), status=404))
