"""From which pages a browser may send views: the service's own, and those of the origins that CORS allows.

A page of another site could make its visitors view a video: a POST of text/plain needs no preflight. Browsers say with
each request where it comes from (Fetch Metadata, https://www.w3.org/TR/fetch-metadata/); scripts of a page cannot
change it. Apps, players and old browsers send none of these headers, and their requests pass.
"""

import re
from collections.abc import Mapping
from typing import Any

from corsheaders.conf import conf as cors


def is_of_another_site(meta: Mapping[str, Any]) -> bool:
    """Whether a browser sends this for a page of a site that is neither this one's nor allowed."""
    return meta.get("HTTP_SEC_FETCH_SITE") == "cross-site" and not _is_allowed(meta.get("HTTP_ORIGIN", ""))


def _is_allowed(origin: str) -> bool:
    return (
        cors.CORS_ALLOW_ALL_ORIGINS
        or origin in cors.CORS_ALLOWED_ORIGINS
        or any(re.match(pattern, origin) for pattern in cors.CORS_ALLOWED_ORIGIN_REGEXES)
    )
