"""Views that do less and less: for telling where each microsecond of a request goes."""

from typing import Any

from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from benchmarks.ceilings import calls


@csrf_exempt
def empty(request: HttpRequest, pk: int) -> HttpResponse:
    """Django alone."""
    return HttpResponse(b'{"id":1}', content_type="application/json")


class EmptyView(APIView):
    """Django REST framework as it comes, with nothing to do."""

    def post(self, request: Request, pk: int) -> Response:
        """Answer."""
        return Response({"id": pk})


class OneCallView(APIView):
    """Django REST framework as it comes, with the one Redis call."""

    def post(self, request: Request, pk: int) -> Response:
        """Count a view."""
        counted, views = calls.view(pk, request.data["viewer"])
        return Response({"id": pk, "counted": counted, "view_count": views})


urlpatterns: list[Any] = [
    path("api/videos/<int:pk>/empty/view/", empty),
    path("api/videos/<int:pk>/drf/view/", EmptyView.as_view()),
    path("api/videos/<int:pk>/view/", OneCallView.as_view()),
]
application = get_wsgi_application()
