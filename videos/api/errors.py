"""The answer to each error: one table for the express lane and for Django's way."""

import logging
from typing import Any, Final

from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.http import Http404, HttpResponse, UnreadablePostError
from rest_framework.exceptions import APIException
from rest_framework.views import set_rollback

from videos import services
from videos.api.answers import Answer, json_body
from videos.api.authentication import CHALLENGE
from videos.api.bodies import LengthRequired
from videos.conf import conf

logger = logging.getLogger(__name__)

# The first row that matches is used. Errors of Django REST framework have a status and a detail of their own.
TABLE: Final[tuple[tuple[type[Exception], int, str], ...]] = (
    (services.VideoNotFound, 404, "No such video."),
    (services.ValueRefused, 400, "The database cannot hold a character or a number of this request."),
    (services.UserNotFound, 401, "The user of this token is gone."),
    (services.SearchTimeout, 503, "The search took too long. Try again in a moment, or search for other words."),
    (services.Unavailable, 503, "Counts cannot be taken or read just now; try again in a moment."),
    (LengthRequired, 411, "Send the body with a Content-Length."),
    (RequestDataTooBig, 413, "The request's body is too large."),
    (UnreadablePostError, 400, "The request's body ended early."),
    (Http404, 404, "Not found."),
    (PermissionDenied, 403, "You do not have permission to perform this action."),
)
FAULT: Final = Answer(json_body({"detail": "Internal server error."}), (), 500)  # for a bug of the service


def answer_of(error: Exception) -> Answer | None:
    """The answer to an error; None for a bug of the service."""
    if isinstance(error, APIException):
        data = error.detail if isinstance(error.detail, list | dict) else {"detail": error.detail}
        return _error_answer(error.status_code, data, getattr(error, "wait", None))
    if services.refuses_value(error):  # raised outside of services, by the admin or a session
        error = services.ValueRefused()
    elif services.is_away(error):
        error = services.Unavailable(str(error))
    for kind, status, detail in TABLE:
        if isinstance(error, kind):
            if status == 503:
                logger.warning("Answered 503: %s", error.__cause__ or error)
            return _error_answer(status, {"detail": detail}, conf.RETRY_AFTER_SECONDS if status == 503 else None)
    return None


def _error_answer(status: int, data: Any, wait: float | None) -> Answer:
    headers = []
    if status == 401:
        headers.append(("WWW-Authenticate", CHALLENGE))
    if wait:
        headers.append(("Retry-After", str(int(wait))))
    return Answer(json_body(data), tuple(headers), status)


def exception_handler(error: Exception, context: dict[str, Any]) -> HttpResponse | None:
    """Answer errors of views, for Django REST framework. It raises the error again if this returns None."""
    answer = answer_of(error)
    if answer is None:
        return None
    set_rollback()
    return render(answer)


def render(answer: Answer) -> HttpResponse:
    """An answer as Django's response."""
    body, headers, status = answer
    return HttpResponse(body, status=status, content_type="application/json", headers=dict(headers))
