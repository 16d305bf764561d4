"""The WSGI handler: usual requests on the express lane, all others through Django."""

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.core.signals import got_request_exception

from videos import services
from videos.api import bodies, errors, express, operations
from videos.api.answers import Answer
from videos.api.frames import Frames

STATUS_LINES: Final = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}

logger = logging.getLogger("django.request")  # to which Django's handler logs errors


class Handler(WSGIHandler):
    """The express lane, and Django's handler behind it. Both give the same status, headers and body."""

    def __init__(self) -> None:
        super().__init__()
        self.frames = Frames(self.get_response)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        """Answer a request."""
        request = express.recognise(environ)
        frame = None if request is None else self.frames.frame_of(request.operation.address, environ)
        if request is None or frame is None:
            return self._django(environ, start_response)
        try:
            call = express.call_of(environ, request, frame.site)
            answer = None if call is None else operations.run(request.operation, call)
        except Exception as error:  # noqa: BLE001  as Django's handler does
            answer = _refusal(error, environ)
        if answer is None:
            return self._django(environ, start_response)
        body, headers, status = answer
        around = frame.headers
        if status == 500:  # Django sets Allow in the view
            around = [header for header in around if header[0] != "Allow"]
        start_response(STATUS_LINES[status], [*around, ("Content-Length", str(len(body))), *headers])
        return [body]

    def _django(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        bodies.prepare(environ)
        with services.whole_request():
            return super().__call__(environ, start_response)


def _refusal(error: Exception, environ: dict[str, Any]) -> Answer:
    """The answer to an error. As in Django, the error is logged, and a bug is signalled."""
    bodies.prepare(environ)  # WSGIRequest raises for some Content-Types
    request = WSGIRequest(environ)
    answer = errors.answer_of(error)
    if answer is None:
        answer = errors.FAULT
        got_request_exception.send(sender=Handler, request=request)
    logger.log(
        logging.ERROR if answer.status >= 500 else logging.WARNING,
        "%s: %s",
        *(HTTPStatus(answer.status).phrase, environ["PATH_INFO"]),
        exc_info=error if answer is errors.FAULT else None,
        extra={"status_code": answer.status, "request": request},
    )
    return answer
