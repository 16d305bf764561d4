"""What schemathesis cannot read in the schema: its hooks, loaded by tests/deploy/test_generated_requests.py.

All of its checks run. Here stands what is left out of them, and why.
"""

import json
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis.specs.openapi import checks

LARGEST = 10**15  # of a count, and of microseconds since 1970: thirty years
AGES = st.timedeltas(timedelta(seconds=1), timedelta(days=6))  # a view may be a week old
positions = st.tuples(st.integers(0, LARGEST), st.integers(0, LARGEST), st.integers(0, 1))

# The format "cursor" of this service: opaque to clients, who take cursors from pages.
schemathesis.openapi.format("cursor", positions.map(lambda at: urlsafe_b64encode(json.dumps(at).encode()).decode()))
# The one address that is sent is that of a video. How long a host's name may be is told in words.
LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
hosts = st.lists(LABELS, min_size=1, max_size=3).map(lambda labels: ".".join([*labels, "example"]))
paths = st.from_regex(r"[A-Za-z0-9_~/.-]{0,200}(\?[a-z]=[0-9]{0,9})?", fullmatch=True)
schemathesis.openapi.format(
    "uri", st.builds("{}://{}/{}".format, st.sampled_from(["http", "https", "ftp"]), hosts, paths)
)
# A span begins before it ends, which a schema cannot say.
for name, days in (
    ("start-of-span", st.timedeltas(timedelta(3), timedelta(6))),
    ("end-of-span", st.timedeltas(max_value=timedelta(2), min_value=timedelta(0))),
):
    schemathesis.openapi.format(name, days.map(lambda age: (datetime.now(UTC) - age).isoformat()))
schemathesis.openapi.format("time-zone", st.sampled_from(["UTC", "Asia/Seoul", "America/St_Johns", "Pacific/Apia"]))
# The one time that is sent is `at` of a view. A schema cannot say that a limit moves with the clock.
schemathesis.openapi.format("date-time", AGES.map(lambda age: (datetime.now(UTC) - age).isoformat()))

OF_LIKES = {"/api/videos/{video}/like/", "/api/videos/{video}/likes/"}


@schemathesis.hook
def filter_query(context: Any, query: Any) -> bool:
    """What a search finds is not ordered by what trends; a schema cannot forbid two parameters together."""
    return not (query and query.get("ordering") == "trending" and "search" in query)


@schemathesis.check
def use_after_deletion(ctx: Any, response: Any, case: Any) -> bool | None:
    """Their check `use_after_free`, but for pages of likes: after DELETE they are there, without it."""
    return None if case.operation.path in OF_LIKES else checks.use_after_free(ctx, response, case)
