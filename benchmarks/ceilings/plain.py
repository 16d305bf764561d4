"""Plain Django views: no REST framework, one Redis call."""

import json
import os
from typing import Any

import jwt
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from benchmarks.ceilings import calls

SECRET_KEY = os.environ["SECRET_KEY"]


@csrf_exempt
def view(request: HttpRequest, pk: int) -> JsonResponse:
    """Count a view."""
    counted, views = calls.view(pk, json.loads(request.body)["viewer"])
    return JsonResponse({"id": pk, "counted": counted, "view_count": views})


@csrf_exempt
def like(request: HttpRequest, pk: int) -> JsonResponse:
    """Like a video, or no longer, with the token checked."""
    token = request.headers["Authorization"].removeprefix("Bearer ")
    user = int(jwt.decode(token, SECRET_KEY, algorithms=["HS256"])["user_id"])
    liked = request.method != "DELETE"
    return JsonResponse({"id": pk, "liked": liked, "like_count": calls.like(pk, user, liked)})


urlpatterns: list[Any] = [path("api/videos/<int:pk>/view/", view), path("api/videos/<int:pk>/like/", like)]
application = get_wsgi_application()
