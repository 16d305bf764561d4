"""Checks of the app's own settings: VIDEOS_…, throttles, the isolation level."""

from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from typing import Any, Final

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004  Django's names
from drf_spectacular.openapi import AutoSchema
from limits import parse
from limits.errors import ConfigurationError
from rest_framework.settings import api_settings

from videos.api import frames, throttling
from videos.api.reports import without_passwords
from videos.conf import AppSettings, Number, conf

ISOLATION_LEVELS: Final = {"read uncommitted", "read committed", "repeatable read", "serializable"}
SCOPES: Final = {"account", "token", "like", "view", "write", "search", "stats"}
NAMES: Final = {name for name in vars(AppSettings) if name.isupper()}
LIKERS: Final = {"everyone", "owner", "nobody"}
TOKEN_KEY_CHARACTERS: Final = 32  # PyJWT warns of shorter keys for HS256
NUMBERS: Final = {name: number for name, number in vars(AppSettings).items() if isinstance(number, Number)}


@register("videos")
def check_numbers(**_: Any) -> Iterator[CheckMessage]:
    """E001: a setting is no number, or out of its span."""
    for name, number in NUMBERS.items():
        value = getattr(conf, name)
        whole = type(number.default) is int
        if type(value) not in ((int,) if whole else (int, float)) or not number.least <= value <= number.most:
            kind = "a whole number" if whole else "a number"
            hint = f"Make it {kind} from {number.least:,} to {number.most:,}."
            yield Error(f"VIDEOS_{name} is {value!r}.", hint=hint, id="videos.E001")


@register("videos")
def check_names(**_: Any) -> Iterator[CheckMessage]:
    """W001: a setting named VIDEOS_… that this app does not have."""
    hint = f"Those there are: {', '.join(f'VIDEOS_{known}' for known in sorted(NAMES))}."
    for name in sorted(dir(settings)):
        if name.startswith("VIDEOS_") and name[7:] not in NAMES:
            yield Warning(f"There is no setting {name}.", hint=hint, id="videos.W001")


@register("videos")
def check_private_networks(**_: Any) -> Iterator[CheckMessage]:
    """E028: VIDEOS_PRIVATE_NETWORKS cannot be read."""
    networks: Any = conf.PRIVATE_NETWORKS
    hint = 'Make it a tuple of networks, like ("10.0.0.0/8", "fd00::/8").'
    if type(networks) not in {tuple, list}:
        yield Error(f"VIDEOS_PRIVATE_NETWORKS is {networks!r}.", hint=hint, id="videos.E028")
        return
    for text in networks:
        try:
            ip_network(text)
        except ValueError as error:
            yield Error(f"VIDEOS_PRIVATE_NETWORKS cannot be read: {error}", hint=hint, id="videos.E028")


@register("videos")
def check_isolation_level(**_: Any) -> Iterator[CheckMessage]:
    """E002: the isolation level does not exist."""
    level = conf.FLUSH_ISOLATION_LEVEL
    if level not in ISOLATION_LEVELS:
        hint = f"Make it one of: {', '.join(sorted(ISOLATION_LEVELS))}."
        yield Error(f"VIDEOS_FLUSH_ISOLATION_LEVEL is {level!r}.", hint=hint, id="videos.E002")


@register("videos")
def check_throttles(**_: Any) -> Iterator[CheckMessage]:
    """E003: a rate cannot be parsed; E004: the storage of the rates cannot be used."""
    rates: Any = conf.THROTTLE_RATES
    if not isinstance(rates, Mapping) or not set(rates) <= SCOPES:
        hint = f"Make it a dictionary with rates for {', '.join(sorted(SCOPES))}."
        yield Error(f"VIDEOS_THROTTLE_RATES is {rates!r}.", hint=hint, id="videos.E003")
        return
    for scope, rate in rates.items():
        try:
            if rate is not None:
                parse(rate)
        except (ValueError, TypeError, AttributeError):
            hint = 'Write it as the package limits does, like "600/minute"; None is no limit.'
            yield Error(f"The rate of {scope!r} in VIDEOS_THROTTLE_RATES is {rate!r}.", hint=hint, id="videos.E003")
    try:
        throttling.limiter_on(conf.THROTTLE_STORAGE)
    except (ConfigurationError, ValueError, TypeError, AttributeError) as error:
        hint = 'Make it "counters://", "process://", or the URL of a storage of the package limits, like "redis://host:6379/1".'
        yield Error(
            f"VIDEOS_THROTTLE_STORAGE cannot be used: {without_passwords(str(error))}", hint=hint, id="videos.E004"
        )


@register("videos", deploy=True)
def check_throttles_for_deployment(**_: Any) -> Iterator[CheckMessage]:
    """W030: each worker process throttles alone."""
    if str(conf.THROTTLE_STORAGE).startswith("process:"):
        message = "Throttles count in each worker process alone: N workers let N times as many requests through."
        hint = 'Set THROTTLE_STORAGE_URL to "counters://", the default, which counts in the counters\' Redis.'
        yield Warning(message, hint=hint, id="videos.W030")


@register("videos")
def check_token_keys(**_: Any) -> Iterator[CheckMessage]:
    """E030: a key for tokens is no text, or too short to sign with."""
    keys: list[tuple[str, Any]] = [("VIDEOS_JWT_SIGNING_KEY", conf.JWT_SIGNING_KEY)] if conf.JWT_SIGNING_KEY else []
    fallbacks: Any = conf.JWT_SIGNING_KEY_FALLBACKS
    if not isinstance(fallbacks, list | tuple):
        fallbacks = [fallbacks]
    keys += [("VIDEOS_JWT_SIGNING_KEY_FALLBACKS", key) for key in fallbacks]
    hint = f"Make it a text of {TOKEN_KEY_CHARACTERS} random characters or more, in a list where there are several."
    for name, key in keys:
        if not isinstance(key, str) or len(key) < TOKEN_KEY_CHARACTERS:
            yield Error(f"A key in {name} is too short, or no text.", hint=hint, id="videos.E030")


@register("videos")
def check_likers(**_: Any) -> Iterator[CheckMessage]:
    """E031: nobody knows who may see who likes a video."""
    if conf.LIKERS not in LIKERS:
        hint = f"Make it one of: {', '.join(sorted(LIKERS))}."
        yield Error(f"VIDEOS_LIKERS is {conf.LIKERS!r}.", hint=hint, id="videos.E031")


@register("videos")
def check_schema(**_: Any) -> Iterator[CheckMessage]:
    """W005: the pages that describe the API cannot be made."""
    hint = "Add it, or do not link to these pages. The API itself works without."
    for name in ("drf_spectacular", "drf_spectacular_sidecar"):
        if not apps.is_installed(name):
            message = f"/api/docs/ answers 500: {name} is not in INSTALLED_APPS."
            yield Warning(message, hint=hint, id="videos.W005")
    schema_class: Any = api_settings.DEFAULT_SCHEMA_CLASS
    if not issubclass(schema_class, AutoSchema):
        name = "drf_spectacular.openapi.AutoSchema"
        message = f"/api/schema/ answers 500: DEFAULT_SCHEMA_CLASS of REST_FRAMEWORK is not {name}."
        yield Warning(message, hint=hint, id="videos.W005")


@register("videos")
def check_middleware(**_: Any) -> Iterator[CheckMessage]:
    """W003: MIDDLEWARE that closes the express lane."""
    hint = (
        "All requests take Django's way, which runs all of MIDDLEWARE and is slower. Set VIDEOS_EXPRESS to False to "
        "agree, or change that setting."
    )
    for obstacle in frames.obstacles() if conf.EXPRESS else ():
        yield Warning(f"The express lane is closed: {obstacle}.", hint=hint, id="videos.W003")
