"""The answer to each error: one table for the express lane and for Django's way.

Each answer is `{"detail", "code"}`. A program decides by the code, which never changes; people read the detail. What a
request says of its fields is in `errors`, beside the code `invalid`.
"""

import logging
from typing import Any, Final

from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.http import Http404, HttpResponse, UnreadablePostError
from rest_framework.exceptions import APIException, ErrorDetail
from rest_framework.views import set_rollback

from videos import services
from videos.api.answers import Answer, json_body
from videos.api.authentication import CHALLENGE
from videos.api.bodies import LengthRequired
from videos.conf import conf

logger = logging.getLogger(__name__)

# The first row that matches is used. Errors of Django REST framework have a status, a code and a detail of their own.
TABLE: Final[tuple[tuple[type[Exception], int, str, str], ...]] = (
    (services.VideoNotFound, 404, "video_not_found", "No such video."),
    (
        services.ValueRefused,
        400,
        "value_refused",
        "The database cannot hold a character or a number of this request.",
    ),
    (services.UserNotFound, 401, "user_not_found", "The user of this token is gone."),
    (
        services.SearchTimeout,
        503,
        "search_timeout",
        "The search took too long. Try again in a moment, or search for other words.",
    ),
    (services.Unavailable, 503, "unavailable", "Counts cannot be taken or read just now; try again in a moment."),
    (LengthRequired, 411, "length_required", "Send the body with a Content-Length."),
    (RequestDataTooBig, 413, "body_too_large", "The request's body is too large."),
    (UnreadablePostError, 400, "body_incomplete", "The request's body ended early."),
    (Http404, 404, "not_found", "Not found."),
    (PermissionDenied, 403, "permission_denied", "You do not have permission to perform this action."),
)


def answer_of(error: Exception) -> Answer | None:
    """The answer to an error; None for a bug of the service."""
    if isinstance(error, APIException):
        return _error_answer(error.status_code, _data_of(error.detail), getattr(error, "wait", None))
    if services.refuses_value(error):  # raised outside of services, by the admin or a session
        error = services.ValueRefused()
    elif services.is_away(error):
        error = services.Unavailable(str(error))
    for kind, status, code, detail in TABLE:
        if isinstance(error, kind):
            if status == 503:
                logger.warning("Answered 503: %s", error.__cause__ or error)
            data = error_data(detail, code)
            return _error_answer(status, data, conf.RETRY_AFTER_SECONDS if status == 503 else None)
    return None


def error_data(detail: str, code: str) -> dict[str, str]:
    """The body of every error: words for people, and a code for programs."""
    return {"detail": detail, "code": code}


FAULT: Final = Answer(json_body(error_data("Internal server error.", "internal_error")), (), 500)  # for a bug


def _data_of(detail: Any) -> dict[str, Any]:
    if isinstance(detail, ErrorDetail):
        return error_data(detail, str(detail.code))
    if isinstance(detail, dict) and detail.keys() == {"detail", "code"}:  # of a token
        return error_data(str(detail["detail"]), str(detail["code"]))
    errors = detail if isinstance(detail, dict) else {"non_field_errors": detail}
    return {**error_data("The request is not valid.", "invalid"), "errors": errors}


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
