"""A user of Redis with the rules of docs/operations.md may do all that the service does, and no rule is too many."""

import re
from importlib import resources
from typing import Any

import pytest
import redis
from django.core.checks import run_checks
from django.core.management import call_command

from servers import RedisServer
from tests.conftest import with_counters
from tests.support.factories import make_users, make_videos
from tests.support.outages import PAGE
from videos import counters, health, services
from videos.counters import connection, status
from videos.flush import run_flush

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]

_, _, RULES = re.findall(r"ACL SETUSER (\S+) (on >\S+) ([^`]*)```", PAGE.with_name("operations.md").read_text())[0]
COMMANDS = [rule[1:] for rule in RULES.split() if rule[0] == "+"]
OPTIONAL = {"config|get", "client|setinfo"}  # the second is the client's, which ignores the refusal


def set_rules(client: Any, rules: list[str]) -> None:
    client.execute_command("ACL", "SETUSER", "videos", "reset", "on", ">pw", *rules)


@pytest.fixture
def admin(own_redis: RedisServer, settings: Any) -> redis.Redis:
    """A client with all rights; the service has a user with the page's rules."""
    client = own_redis.client()
    set_rules(client, RULES.split())
    client.acl_log_reset()
    with_counters(settings, LOCATION=own_redis.url.replace("redis://", "redis://videos:pw@"))
    return client


def test_the_rules_of_the_page_are_enough(admin: redis.Redis) -> None:
    videos, users = make_videos(3), make_users(3)
    for liked in (True, False, True):
        for user in users:
            services.set_like(video_id=videos[0], user_id=user, liked=liked)
            services.record_view(event=services.ViewEvent(videos[0], f"v{user}", address="192.0.2.1"))
        services.record_views(events=[services.ViewEvent(videos[1], "a", at_ms=counters.now_ms())])
        services.recent_marks(user_id=users[0])
        services.import_counts(column="view_count", values={videos[2]: 5}, add=True)
        assert not run_flush().failed
    services.delete_video(video_id=videos[0])
    call_command("reconcile_counters", "--repair", verbosity=0)
    services.record_view(event=services.ViewEvent(videos[1], "b"))
    assert counters.count_hits([counters.Hits("like:1", 2, 60)])[0][0] == 2
    counters.forget_users(users)
    call_command("adopt_counters", "--drop", verbosity=0)
    connection.meet_now()
    assert not run_flush().failed
    assert all(state["ok"] for state in health.check_parts().values())
    assert {check.id for check in run_checks(databases=["default"])} <= {"videos.W023", "videos.W024"}
    assert {entry["object"] for entry in admin.acl_log()} <= OPTIONAL


@pytest.mark.parametrize(
    "command", [*(name for name in COMMANDS if name != "select"), "~{videos:*", "~videos:*", "~{user:*"]
)
def test_e019_what_is_refused_is_named(admin: redis.Redis, command: str) -> None:
    set_rules(admin, [rule for rule in RULES.split() if rule not in {command, f"+{command}"}])
    (told,) = [check for check in run_checks(databases=["default"]) if str(check.id) == "videos.E019"]
    assert (command.upper().replace("|", " ") if command[0] != "~" else command[1:-1]) in told.msg


def test_all_commands_of_the_scripts_are_tried() -> None:
    folder = resources.files("videos.counters").joinpath("lua")
    called = {name for path in folder.iterdir() for name in re.findall(r"call\('([A-Z]+)'", path.read_text())}
    assert called
    assert called <= {trial[0] for trial in status.TRIALS}
