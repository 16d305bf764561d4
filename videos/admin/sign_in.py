"""The admin's door: sign-ins are limited as those of the API are."""

import functools
from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from rest_framework.exceptions import APIException
from unfold.forms import AuthenticationForm

from videos.api.errors import answer_of
from videos.api.signing_in import guarded


class SignInForm(AuthenticationForm):  # type: ignore[misc]  # its package has no types
    """Unfold's form, whose check of the password has its turn."""

    def clean(self) -> dict[str, Any]:
        """Check name and password. Raises Throttled, Busy."""
        name = self.cleaned_data.get("username")
        if self.request is None or not name or not self.cleaned_data.get("password"):
            return dict(super().clean())
        with guarded(self.request.META, name):
            return dict(super().clean())


def told_to_wait(login: Callable[..., Any]) -> Callable[..., Any]:
    """Django's page, and a plain answer to those who must come back later."""

    @functools.wraps(login)
    def view(request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        try:
            return login(request, extra_context)
        except APIException as error:
            answer = answer_of(error)
            assert answer is not None  # noqa: S101  an APIException has one  # nosec B101
            return HttpResponse(
                str(error.detail), status=answer.status, content_type="text/plain", headers=dict(answer.headers)
            )

    return view


if admin.site.login_form is AuthenticationForm:  # a project's own form is left alone
    admin.site.login_form = SignInForm
    admin.site.login = told_to_wait(admin.site.login)  # type: ignore[method-assign]
