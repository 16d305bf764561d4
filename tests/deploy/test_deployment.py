from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from zappa.core import Zappa

from deploy import aws as deployment
from servers import ROOT
from tests.support.aws import ACCOUNT, REGION, AwsServer, Call, Deployer, actions_of, allows

pytestmark = [pytest.mark.slow, pytest.mark.once]

STAGE = deployment.read_stage("production")
API_STAGE = deployment.read_stage("production_api")
DELIVERY = {"MaximumRetryAttempts": 1, "MaximumEventAgeInSeconds": 300}
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:streaming-production-dead"
# Granted, and called by AWS itself in the deployer's name, or by a person (`zappa invoke`, `zappa tail`).
NOT_IN_THE_RUN = {
    "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcs", "iam:PassRole", "lambda:InvokeFunction",
    "lambda:DeleteFunctionConcurrency", "logs:DescribeLogStreams", "logs:FilterLogEvents",
}  # fmt: skip
# Called by CloudFormation in the deployer's name; and while Zappa waits longer than moto lets it.
NOT_IN_THE_API_RUN = {"s3:GetObject", "apigateway:DELETE", "apigateway:PUT", "cloudformation:ListStackResources"}


@dataclass
class Account:
    """What stood in the account after each step, and what the steps said."""

    deployer: Deployer
    said: dict[str, str] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    after: dict[str, dict[str, Any]] = field(default_factory=dict)
    inventory: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def step(self, name: str, *command: str) -> None:
        self.said[name] = self.deployer.must(*command)
        self.after[name] = self.look()
        self.inventory[name] = self.deployer.inventory()

    def check(self, name: str) -> None:
        done = self.deployer.run("deploy/aws.py", "check", "production")
        self.said[name], self.failed[name] = done.stdout + done.stderr, done.returncode

    def look(self) -> dict[str, Any]:
        functions, events = self.deployer.client("lambda"), self.deployer.client("events")
        if not functions.list_functions()["Functions"]:
            return {}
        name = STAGE.function
        rules = [
            {**rule, "Targets": events.list_targets_by_rule(Rule=rule["Name"])["Targets"]}
            for rule in events.list_rules()["Rules"]
        ]
        return {
            "function": functions.get_function(FunctionName=name),
            "versions": functions.list_versions_by_function(FunctionName=name)["Versions"],
            "rules": rules,
            "permissions": json.loads(functions.get_policy(FunctionName=name)["Policy"])["Statement"] if rules else [],
            "asynchronous": functions.get_function_event_invoke_config(FunctionName=name),
        }


def make_network(deployer: Deployer) -> dict[str, str]:
    """Two subnets and a security group, as the docs ask for."""
    ec2 = deployer.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnets = [ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{number}.0/24")["Subnet"]["SubnetId"] for number in (1, 2)]
    group = ec2.create_security_group(GroupName="flush", Description="the flush", VpcId=vpc)["GroupId"]
    return {"SUBNET_A": subnets[0], "SUBNET_B": subnets[1], "SECURITY_GROUP": group}


SECRETS = {
    "SECRET_KEY": "secret-of-the-deployment",
    "DATABASE_URL": "mysql://flush:password@database.internal/streaming?ssl_mode=VERIFY_IDENTITY",
    "REDIS_URL": "rediss://redis.internal:6379/0",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsServer]:
    with AwsServer(tmp_path_factory.mktemp("moto") / "server") as started:
        yield started


@pytest.fixture(scope="module")
def other_package(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The next version of the code."""
    changed = tmp_path_factory.mktemp("next") / "package.zip"
    shutil.copy(package, changed)
    with zipfile.ZipFile(changed, "a") as archive:
        archive.writestr("streaming/next.py", "# the next version\n")
    return changed


@pytest.fixture(scope="module")
def account(server: AwsServer, package: Path, other_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Account:
    """The whole life of a deployment, once; the tests look at what each step left."""
    deployer = Deployer(server, tmp_path_factory.mktemp("deployer"), **SECRETS)
    deployer.environment |= make_network(deployer)
    account = Account(deployer)
    account.step("prepare", "deploy/aws.py", "prepare", "production", "--email", "ops@example.com")
    account.step("prepare again", "deploy/aws.py", "prepare", "production")
    account.step("deploy", "zappa", "deploy", "production", "--zip", str(package))
    account.check("check after deploy")
    account.said["status"] = deployer.must("zappa", "status", "production")
    account.step("update", "zappa", "update", "production", "--zip", str(other_package))
    account.check("check after update")
    account.step("unschedule", "zappa", "unschedule", "production")
    account.check("check after unschedule")
    account.step("schedule", "zappa", "schedule", "production")
    account.check("check after schedule")
    account.step("finish", "deploy/aws.py", "finish", "production")
    account.check("check after finish")
    account.step("rollback", "zappa", "rollback", "production", "-n", "1")
    account.step("undeploy", "zappa", "undeploy", "production", "--yes")
    account.step("remove", "deploy/aws.py", "remove", "production")
    return account


def code_hash(package: Path) -> str:
    return base64.b64encode(hashlib.sha256(package.read_bytes()).digest()).decode()


def configuration(account: Account, step: str) -> dict[str, Any]:
    found: dict[str, Any] = account.after[step]["function"]["Configuration"]
    return found


def test_function_runs_the_package_on_the_stages_runtime(account: Account, package: Path) -> None:
    found = configuration(account, "deploy")
    assert {key: found[key] for key in ("Runtime", "MemorySize", "Timeout", "Handler", "CodeSha256")} == {
        "Runtime": "python3.14",
        "MemorySize": 512,
        "Timeout": 300,
        "Handler": "handler.lambda_handler",
        "CodeSha256": code_hash(package),
    }


def test_function_stands_in_the_network_that_the_environment_names(account: Account) -> None:
    network, environment = configuration(account, "deploy")["VpcConfig"], account.deployer.environment
    assert network["SubnetIds"] == [environment["SUBNET_A"], environment["SUBNET_B"]]
    assert network["SecurityGroupIds"] == [environment["SECURITY_GROUP"]]


@pytest.mark.parametrize("step", ["deploy", "update"])
def test_function_has_the_values_that_the_environment_holds(account: Account, step: str) -> None:
    variables = configuration(account, step)["Environment"]["Variables"]
    assert {name: variables[name] for name in SECRETS} == SECRETS


def test_function_runs_as_the_role_of_its_own(account: Account) -> None:
    assert configuration(account, "deploy")["Role"] == f"arn:aws:iam::{ACCOUNT}:role/streaming-production-lambda"


def test_one_run_at_a_time_is_reserved(account: Account) -> None:
    assert account.after["deploy"]["function"]["Concurrency"] == {"ReservedConcurrentExecutions": 1}


@pytest.mark.parametrize("step", ["deploy", "update", "schedule"])
def test_rule_runs_the_flush_every_minute(account: Account, step: str) -> None:
    (rule,) = account.after[step]["rules"]
    assert (rule["ScheduleExpression"], rule["State"]) == ("rate(1 minute)", "ENABLED")
    assert rule["Name"] == "streaming-production-flush-streaming.schedule.flush"
    assert [target["Arn"] for target in rule["Targets"]] == [configuration(account, step)["FunctionArn"]]


def test_rule_hands_over_an_event_in_which_zappa_finds_the_function(account: Account) -> None:
    (rule,) = account.after["deploy"]["rules"]
    event = {
        "time": "2026-01-01T00:00:00Z", "detail-type": "Scheduled Event", "source": "aws.events", "account": ACCOUNT,
        "region": REGION, "detail": {}, "version": "0", "resources": [rule["Arn"]], "id": "1",
    }  # fmt: skip
    transformer = rule["Targets"][0]["InputTransformer"]
    text = transformer["InputTemplate"]
    for name, path in transformer["InputPathsMap"].items():
        text = text.replace(f"<{name}>", json.dumps(event[path.removeprefix("$.")]))
    assert json.loads(text) == {**event, "kwargs": {}}
    assert rule["Arn"].split("/")[-1].split("-")[-1] == "streaming.schedule.flush"


@pytest.mark.parametrize("step", ["deploy", "update", "schedule"])
def test_only_the_rule_may_call_the_function(account: Account, step: str) -> None:
    (rule,) = account.after[step]["rules"]
    (permission,) = account.after[step]["permissions"]
    assert permission["Principal"] == {"Service": "events.amazonaws.com"}
    assert permission["Action"] == "lambda:InvokeFunction"
    assert permission["Condition"]["ArnLike"] == {"AWS:SourceArn": rule["Arn"]}


@pytest.mark.parametrize("step", ["deploy", "update", "finish"])
def test_events_are_repeated_once_kept_for_one_run_and_never_lost_in_silence(account: Account, step: str) -> None:
    asynchronous = account.after[step]["asynchronous"]
    assert {key: asynchronous[key] for key in DELIVERY} == DELIVERY
    assert asynchronous["DestinationConfig"]["OnFailure"] == {"Destination": QUEUE}
    (target,) = account.after[step]["rules"][0]["Targets"]
    assert target["RetryPolicy"] == DELIVERY
    assert target["DeadLetterConfig"] == {"Arn": QUEUE}


def test_check_is_content_after_deploy_and_update(account: Account) -> None:
    assert (account.failed["check after deploy"], account.failed["check after update"]) == (0, 0), account.said


def test_check_tells_what_schedule_took_away_and_finish_puts_it_back(account: Account) -> None:
    assert account.failed["check after schedule"] == 1
    assert "streaming-production-flush-streaming.schedule.flush" in account.said["check after schedule"]
    assert account.failed["check after finish"] == 0, account.said["check after finish"]


def test_unschedule_stops_the_clock_and_check_tells(account: Account) -> None:
    assert account.after["unschedule"]["rules"] == []
    assert account.failed["check after unschedule"] == 1
    assert "zappa schedule" in account.said["check after unschedule"]


def test_status_shows_the_function_and_its_rule(account: Account) -> None:
    assert "streaming-production-flush-streaming.schedule.flush" in account.said["status"]
    assert "python3.14" in account.said["status"]


def test_update_brings_the_new_code_and_rollback_the_old(account: Account, package: Path, other_package: Path) -> None:
    assert configuration(account, "update")["CodeSha256"] == code_hash(other_package)
    assert configuration(account, "rollback")["CodeSha256"] == code_hash(package)


def test_prepare_may_be_repeated(account: Account) -> None:
    assert account.inventory["prepare again"] == account.inventory["prepare"]


def test_no_bucket_is_needed_for_the_flush(account: Account) -> None:
    assert all("buckets" not in inventory for inventory in account.inventory.values())


def test_undeploy_leaves_what_the_docs_name_and_nothing_else(account: Account) -> None:
    text = (ROOT / "docs" / "deployment.md").read_text()
    section = text.split("## What stays after undeploy")[1].split("\n## ")[0]
    named = {match for line in section.splitlines() if line.startswith("|") for match in re.findall(r"`([^`]+)`", line)}
    left = {name.rsplit("/", 1)[-1] if kind == "queues" else name.rsplit(":", 1)[-1]
            for kind, names in account.inventory["undeploy"].items() for name in names}  # fmt: skip
    assert left == named


def test_remove_leaves_nothing(account: Account) -> None:
    assert account.inventory["remove"] == {}


def test_no_call_is_outside_the_deployers_policy(account: Account) -> None:
    policy = deployment.read_policy("deployer", STAGE, region=REGION, account=ACCOUNT)
    assert refused(account.deployer.calls, [policy]) == set()


def test_deployers_policy_grants_nothing_that_is_not_used(account: Account) -> None:
    policy = deployment.read_policy("deployer", STAGE, region=REGION, account=ACCOUNT)
    called = {call.action for call in account.deployer.calls}
    assert actions_of(policy) - called == NOT_IN_THE_RUN


def test_deployers_policy_reaches_no_other_function(account: Account) -> None:
    policy = deployment.read_policy("deployer", STAGE, region=REGION, account=ACCOUNT)
    other = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:payments"
    assert not allows(policy, "lambda:UpdateFunctionCode", other)
    assert not allows(policy, "iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/admin")


def refused(calls: list[Call], policies: list[dict[str, Any]]) -> set[tuple[str, str]]:
    assert calls
    return {
        (call.action, call.resource)
        for call in calls
        if call.action != "sts:GetCallerIdentity"  # always allowed
        and not any(allows(policy, call.action, call.resource) for policy in policies)
    }


@pytest.fixture(scope="module")
def api(server: AwsServer, package: Path, tmp_path_factory: pytest.TempPathFactory, account: Account) -> dict[str, Any]:
    """The web service's stage, deployed, updated and taken away; after the other, whose account it shares."""
    folder = tmp_path_factory.mktemp("api")
    more = {"PACKAGE_BUCKET": "streaming-templates", "ALLOWED_HOSTS": ".amazonaws.com"}
    deployer = Deployer(server, folder, **SECRETS, **more)
    deployer.environment |= make_network(deployer)
    deployer.must("deploy/aws.py", "prepare", "production_api")
    found: dict[str, Any] = {"deployed": deployer.must("zappa", "deploy", "production_api", "--zip", str(package))}
    found["function"] = deployer.client("lambda").get_function(FunctionName=API_STAGE.function)["Configuration"]
    found["inventory"] = deployer.inventory()
    deployer.must("zappa", "update", "production_api", "--zip", str(package))
    found["check"] = deployer.must("deploy/aws.py", "check", "production_api")
    deployer.must("zappa", "undeploy", "production_api", "--yes")
    deployer.must("deploy/aws.py", "remove", "production_api")
    found["left"] = deployer.inventory()
    found["calls"] = deployer.calls
    return found


def test_api_stage_stands_behind_a_gateway_and_runs_on_no_clock(api: dict[str, Any]) -> None:
    assert api["inventory"]["gateways"] == ["streaming-production-api"]
    assert "rules" not in api["inventory"]
    assert "execute-api" in api["deployed"]


def test_api_stage_runs_the_same_code_with_its_own_settings(api: dict[str, Any], package: Path) -> None:
    assert (api["function"]["MemorySize"], api["function"]["Timeout"]) == (1024, 30)
    assert api["function"]["CodeSha256"] == code_hash(package)
    assert api["function"]["Environment"]["Variables"]["ALLOWED_HOSTS"] == ".amazonaws.com"


def test_api_stage_leaves_its_bucket_alone(api: dict[str, Any]) -> None:
    assert api["left"] == {"buckets": ["streaming-templates"]}


def test_no_call_for_the_api_is_outside_its_deployers_policies(
    api: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PACKAGE_BUCKET", "streaming-templates")
    policies = [
        deployment.read_policy(kind, API_STAGE, region=REGION, account=ACCOUNT)
        for kind in ("deployer", "deployer-gateway")
    ]
    assert refused(api["calls"], policies) == set()
    unused = actions_of(policies[1]) - {call.action for call in api["calls"]}
    assert unused == NOT_IN_THE_API_RUN


@pytest.fixture
def stranger(server: AwsServer, tmp_path: Path) -> Deployer:
    """Somebody who has prepared nothing."""
    return Deployer(server, tmp_path)


def test_deploy_without_the_values_names_them_and_makes_nothing(
    stranger: Deployer, account: Account, package: Path
) -> None:
    before = stranger.inventory()
    done = stranger.run("zappa", "deploy", "production", "--zip", str(package))
    assert done.returncode != 0
    assert "DATABASE_URL, REDIS_URL, SECRET_KEY, SECURITY_GROUP, SUBNET_A, SUBNET_B" in done.stderr + done.stdout
    assert stranger.inventory() == before


def test_prepare_refuses_an_account_that_cannot_reserve_concurrency(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("AWS_UNRESERVED_CONCURRENCY", "10")  # what a new account has
    with AwsServer(tmp_path / "small") as small:
        stranger = Deployer(small, tmp_path)
        done = stranger.run("deploy/aws.py", "prepare", "production")
        assert done.returncode != 0
        assert "Service Quotas" in done.stderr
        assert stranger.inventory() == {}


def test_function_policy_lets_the_code_itself_touch_no_network_interface() -> None:
    policy = deployment.read_policy("function", STAGE, region=REGION, account=ACCOUNT)
    (deny,) = [statement for statement in policy["Statement"] if statement["Effect"] == "Deny"]
    assert deny["Action"] == "ec2:*"
    assert deny["Condition"]["ArnEquals"]["lambda:SourceFunctionArn"].endswith(":function:streaming-production")


def test_function_policy_names_its_own_log_and_queue_only() -> None:
    policy = deployment.read_policy("function", STAGE, region=REGION, account=ACCOUNT)
    assert allows(policy, "sqs:SendMessage", QUEUE)
    assert not allows(policy, "sqs:SendMessage", QUEUE.replace("production", "other"))
    assert not allows(policy, "logs:PutLogEvents", f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/other:x")


def test_every_alarm_says_what_it_means_and_tells_somebody(account: Account) -> None:
    assert sorted(account.inventory["deploy"]["alarms"]) == [
        f"streaming-production-{name}" for name in ("behind", "dead", "errors", "lag", "rejected", "rewound", "stopped")
    ]


def test_function_is_named_as_zappa_names_it(account: Account) -> None:
    assert account.inventory["deploy"]["functions"] == [STAGE.function]


def test_example_of_shared_shards_covers_each_once_under_names_that_zappa_takes() -> None:
    blocks = re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "deployment.md").read_text(), re.DOTALL)
    (example,) = [found for block in blocks if "events" in (found := json.loads(block))]
    shards = [shard for event in example["events"] for shard in event["kwargs"]["shards"]]
    rules = [
        Zappa.get_scheduled_event_name(Zappa(load_credentials=False), event, event["function"], STAGE.function)
        for event in example["events"]
    ]
    assert sorted(shards) == list(range(16))
    assert example["lambda_concurrency"] == len(example["events"])
    assert {rule.split("-")[-1] for rule in rules} == {"streaming.schedule.flush"}
    assert len(set(rules)) == len(rules)
    assert all(rule.startswith(f"{STAGE.function}-") for rule in rules)  # the policies grant no others


def test_alarms_of_the_docs_are_those_that_are_made(account: Account) -> None:
    text = (ROOT / "docs" / "deployment.md").read_text()
    section = text.split("## What it tells")[1].split("\n## ")[0]
    rows = section.split("| alarm |")[1]
    named = set(re.findall(r"^\| `(\w+)` \|", rows, re.MULTILINE))
    assert {f"streaming-production-{name}" for name in named} == set(account.inventory["deploy"]["alarms"])


def test_metrics_of_the_docs_are_those_that_are_written() -> None:
    from streaming import schedule

    text = (ROOT / "docs" / "deployment.md").read_text()
    section = text.split("| metric |")[1].split("| alarm |")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(schedule.UNITS)
