"""Requests that schemathesis makes from the schema, to a real server: the schema tells of each answer. All checks run.

GENERATED_SECONDS makes a run longer than the half minute of the suite, GENERATED_SEED repeats one.
"""

import os
import random
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from servers import ROOT, WebServer
from servers.process import PYTHON
from tests.support.doors import token_of
from tests.support.factories import allow, make_likes, make_user
from tests.support.own_settings import environment_of

pytestmark = [pytest.mark.once, pytest.mark.slow, pytest.mark.django_db(transaction=True)]

SECONDS = int(os.environ.get("GENERATED_SECONDS", "25"))
FEWEST = 100  # requests of a run on a busy machine
UNLIMITED = 'VIDEOS_THROTTLE_RATES = dict.fromkeys(("account", "token", "like", "view", "write", "search"))'


@pytest.mark.timeout(2 * SECONDS + 200)
def test_the_schema_tells_of_every_answer(
    web_server: Callable[..., WebServer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_likes(3, 3)
    rights = ("change_video", "delete_video", "send_views", "view_videolike", "view_videohour")
    caller = allow(make_user("caller"), *rights)
    server = web_server(threads=4, **environment_of(tmp_path, UNLIMITED, {}))
    seed = os.environ.get("GENERATED_SEED") or str(random.randrange(2**32))
    options = {  # tests.support.generated has `use_after_free` under another name
        "checks": "all", "exclude-checks": "use_after_free", "max-time": str(SECONDS), "seed": seed,
        "generation-database": "none", "header": f"Authorization: {token_of(caller)}",
    }  # fmt: skip
    program, address = str(PYTHON.parent / "schemathesis"), f"{server.url}/api/schema/"
    command = [program, "--no-color", "run", address, "--continue-on-failure"]
    done = subprocess.run(
        [*command, *(part for name, value in options.items() for part in (f"--{name}", value))],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.support.generated"},
    )  # fmt: skip
    made = re.search(r"(\d+) generated", done.stdout)
    with capsys.disabled():
        print(f"\n{made and made[1]} requests, GENERATED_SEED={seed}")  # noqa: T201  it is to be seen after each run
    assert done.returncode == 0, f"GENERATED_SEED={seed}\n{done.stdout}{done.stderr}"
    assert made
    assert int(made[1]) >= FEWEST
