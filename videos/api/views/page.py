"""The page: a small web player that uses the API as any client does."""

import json
from functools import cache
from importlib.resources import files
from typing import Any, Final, cast

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.template.response import TemplateResponse
from django.utils import translation
from django.utils.decorators import method_decorator
from django.views.decorators.cache import cache_control
from django.views.decorators.vary import vary_on_headers
from django.views.generic import TemplateView

from videos.conf import conf

LANGUAGES: Final = ("en", "ko")  # in the order of the texts in page_texts.json


@method_decorator(login_not_required, name="dispatch")
@method_decorator(cache_control(private=True, no_cache=True), name="dispatch")
@method_decorator(vary_on_headers("Accept-Language", "Cookie"), name="dispatch")
class PageView(TemplateView):
    """One document for all addresses of the page; its script shows what the address says."""

    template_name = "videos/page.html"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, in the language of the visitor's cookie or browser.

        The language is chosen here, because LocaleMiddleware would give answers of the API other headers for each
        client, and close the express lane.
        """
        get_token(request)  # sets the cookie that the script sends back
        with translation.override(translation.get_language_from_request(request)):
            return cast(TemplateResponse, super().get(request, *args, **kwargs)).render()

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """What the script is told."""
        chosen = (translation.get_language() or "").split("-")[0]
        lang = chosen if chosen in LANGUAGES else LANGUAGES[0]
        (other,) = (each for each in LANGUAGES if each != lang)
        return super().get_context_data(
            **kwargs,
            lang=lang,
            other_lang=other,
            other_language=translation.get_language_info(other)["name_local"],
            language_cookie=settings.LANGUAGE_COOKIE_NAME,
            csrf_cookie=settings.CSRF_COOKIE_NAME,
            needed=conf.VIEW_MIN_WATCHED_SECONDS,
            texts=texts_of(lang),
        )


@cache
def texts_of(lang: str) -> dict[str, str]:
    """The texts of the page's script, by their keys."""
    catalogue = json.loads(files("videos").joinpath("page_texts.json").read_text(encoding="utf-8"))
    return {key: texts[LANGUAGES.index(lang)] for key, texts in catalogue.items()}
