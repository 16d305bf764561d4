"""Plain Django views with one Redis call, and views that do less and less, to measure what each layer costs."""

import json
import os
from typing import Any

import jwt
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from benchmarks.wire import Scripts

SECRET_KEY = os.environ["SECRET_KEY"]
scripts = Scripts.of_environment()


@csrf_exempt
def view(request: HttpRequest, pk: int) -> JsonResponse:
    """Count a view."""
    counted, views = scripts.view(pk, json.loads(request.body)["viewer"])
    return JsonResponse({"id": pk, "counted": counted, "view_count": views})


@csrf_exempt
def like(request: HttpRequest, pk: int) -> JsonResponse:
    """Like a video, or no longer, with the token checked."""
    token = request.headers["Authorization"].removeprefix("Bearer ")
    user = int(jwt.decode(token, SECRET_KEY, algorithms=["HS256"])["user_id"])
    liked = request.method != "DELETE"
    return JsonResponse({"id": pk, "liked": liked, "like_count": scripts.like(pk, user, liked)})


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
        counted, views = scripts.view(pk, request.data["viewer"])
        return Response({"id": pk, "counted": counted, "view_count": views})


urlpatterns: list[Any] = [
    path("api/videos/<int:pk>/view/", view),
    path("api/videos/<int:pk>/like/", like),
    path("api/videos/<int:pk>/empty/view/", empty),
    path("api/videos/<int:pk>/drf_empty/view/", EmptyView.as_view()),
    path("api/videos/<int:pk>/drf/view/", OneCallView.as_view()),
]
