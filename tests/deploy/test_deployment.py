"""Zappa and deploy/aws.py against a private AWS account: what each step leaves, and which calls it makes.

One file of over 250 lines: all tests look at the same two deployments, which take most of the time.
"""

import base64
import hashlib
import json
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from zappa.core import Zappa

from deploy import aws as deployment
from servers import ROOT
from streaming import schedule
from tests.support.aws import AwsServer, Call, Deployer, actions_of, allows
from tests.support.packages import captured
from tests.support.runtime_api import ACCOUNT, REGION

pytestmark = [pytest.mark.slow, pytest.mark.once]

DOCS = (ROOT / "docs" / "deployment.md").read_text()
STAGE = deployment.read_stage("production")
API_STAGE = deployment.read_stage("production_api")
DELIVERY = {"MaximumRetryAttempts": 1, "MaximumEventAgeInSeconds": 300}
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:streaming-production-dead"
RULE = "streaming-production-flush-streaming.schedule.flush"
ALARMS = ("behind", "dead", "errors", "full", "lag", "rejected", "rewound", "stopped")
# Granted, and called by AWS in the deployer's name or by a person (`zappa invoke`, `zappa tail`).
NOT_IN_THE_RUN = {
    "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcs", "iam:PassRole", "lambda:InvokeFunction",
    "lambda:DeleteFunctionConcurrency", "logs:DescribeLogStreams", "logs:FilterLogEvents",
}  # fmt: skip
# Called by CloudFormation in the deployer's name, or while Zappa waits longer than with moto.
NOT_IN_THE_API_RUN = {"s3:GetObject", "apigateway:DELETE", "apigateway:PUT", "cloudformation:ListStackResources"}
SECRETS = {
    "SECRET_KEY": "secret-of-the-deployment",
    "DATABASE_URL": "mysql://flush:password@database.internal/streaming?ssl_mode=VERIFY_IDENTITY",
    "REDIS_URL": "rediss://redis.internal:6379/0",
}


@dataclass
class Account:
    """The state of the account after each step, and the output of the steps."""

    administrator: Deployer
    deployer: Deployer
    said: dict[str, str] = field(default_factory=dict)
    checked: dict[str, tuple[int, str]] = field(default_factory=dict)
    after: dict[str, dict[str, Any]] = field(default_factory=dict)
    inventory: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def step(self, name: str, *command: str) -> None:
        administers = command[0] == "deploy/aws.py" and command[1] != "finish"
        self.said[name] = (self.administrator if administers else self.deployer).must(*command)
        self.after[name] = self.look()
        self.inventory[name] = self.deployer.inventory()
        if self.after[name]:
            self.check(name)

    def check(self, name: str) -> None:
        done = self.administrator.run("deploy/aws.py", "check", "production")
        self.checked[name] = (done.returncode, done.stdout + done.stderr)

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
            "rules": rules,
            "permissions": json.loads(functions.get_policy(FunctionName=name)["Policy"])["Statement"] if rules else [],
            "asynchronous": functions.get_function_event_invoke_config(FunctionName=name),
            "resources": look_at_resources(self.deployer),
        }


def look_at_resources(deployer: Deployer) -> dict[str, Any]:
    """What the template made for the stage `production`."""
    queue = f"{deployer.server.url}/{ACCOUNT}/streaming-production-dead"
    alarms = deployer.client("cloudwatch").describe_alarms()["MetricAlarms"]
    return {
        "policies": policies_of(deployer, STAGE),
        "queue": deployer.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"],
        "alarms": {alarm["AlarmName"]: alarm for alarm in alarms},
        "logs": deployer.client("logs").describe_log_groups()["logGroups"],
        "subscriptions": deployer.client("sns").list_subscriptions()["Subscriptions"],
    }


def policies_of(deployer: Deployer, stage: deployment.Stage) -> dict[str, Any]:
    """The policies in the account by name: of the stage's role, and for deployers."""
    iam, role = deployer.client("iam"), stage.settings["role_name"]
    names = iam.list_role_policies(RoleName=role)["PolicyNames"]
    found = {name: iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in names}
    for policy in iam.list_policies(Scope="Local")["Policies"]:
        version = iam.get_policy_version(PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"])
        found[policy["PolicyName"].removeprefix(f"{stage.function}-")] = version["PolicyVersion"]["Document"]
    return found


def make_network(deployer: Deployer) -> dict[str, str]:
    """Two subnets and a security group, as in the docs."""
    ec2 = deployer.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnets = [ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{number}.0/24")["Subnet"]["SubnetId"] for number in (1, 2)]
    group = ec2.create_security_group(GroupName="flush", Description="the flush", VpcId=vpc)["GroupId"]
    return {"SUBNET_A": subnets[0], "SUBNET_B": subnets[1], "SECURITY_GROUP": group}


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
    """The whole life of a deployment, once; the tests look at the state after each step."""
    administrator = Deployer(server, tmp_path_factory.mktemp("administrator"))
    deployer = Deployer(server, tmp_path_factory.mktemp("deployer"), **SECRETS)
    deployer.environment |= make_network(deployer)
    account = Account(administrator, deployer)
    account.step("prepare", "deploy/aws.py", "prepare", "production", "--email", "ops@example.com")
    account.check("prepare")
    account.step("prepare again", "deploy/aws.py", "prepare", "production")
    account.step("deploy", "zappa", "deploy", "production", "--zip", str(package))
    account.said["status"] = deployer.must("zappa", "status", "production")
    account.step("update", "zappa", "update", "production", "--zip", str(other_package))
    account.step("unschedule", "zappa", "unschedule", "production")
    account.step("schedule", "zappa", "schedule", "production")
    account.step("finish", "deploy/aws.py", "finish", "production")
    deployer.client("cloudwatch").delete_alarms(AlarmNames=["streaming-production-lag"])
    account.check("a change by hand")
    account.step("repair", "deploy/aws.py", "prepare", "production")
    account.step("rollback", "zappa", "rollback", "production", "-n", "1")
    account.step("undeploy", "zappa", "undeploy", "production", "--yes")
    account.step("remove", "deploy/aws.py", "remove", "production")
    account.step("remove again", "deploy/aws.py", "remove", "production")
    return account


def code_hash(package: Path) -> str:
    return base64.b64encode(hashlib.sha256(package.read_bytes()).digest()).decode()


def configuration(account: Account, step: str) -> Any:
    return account.after[step]["function"]["Configuration"]


def resources(account: Account) -> Any:
    return account.after["deploy"]["resources"]


def test_function_runs_the_package_as_the_stage_says(account: Account, package: Path) -> None:
    found = configuration(account, "deploy")
    wanted = {
        "FunctionName": STAGE.function, "Runtime": "python3.14", "MemorySize": 512, "Timeout": 300,
        "Handler": "handler.lambda_handler", "CodeSha256": code_hash(package),
        "Role": f"arn:aws:iam::{ACCOUNT}:role/streaming-production-lambda",
    }  # fmt: skip
    assert {key: found[key] for key in wanted} == wanted
    assert account.after["deploy"]["function"]["Concurrency"] == {"ReservedConcurrentExecutions": 1}


@pytest.mark.parametrize("step", ["deploy", "update"])
def test_function_has_the_network_and_the_values_of_the_environment(account: Account, step: str) -> None:
    found, environment = configuration(account, step), account.deployer.environment
    assert found["VpcConfig"]["SubnetIds"] == [environment["SUBNET_A"], environment["SUBNET_B"]]
    assert found["VpcConfig"]["SecurityGroupIds"] == [environment["SECURITY_GROUP"]]
    assert {name: found["Environment"]["Variables"][name] for name in SECRETS} == SECRETS


@pytest.mark.parametrize("step", ["deploy", "update", "schedule"])
def test_one_rule_calls_the_function_every_minute_and_nothing_else_may(account: Account, step: str) -> None:
    (rule,) = account.after[step]["rules"]
    assert (rule["Name"], rule["ScheduleExpression"], rule["State"]) == (RULE, "rate(1 minute)", "ENABLED")
    assert [target["Arn"] for target in rule["Targets"]] == [configuration(account, step)["FunctionArn"]]
    (permission,) = account.after[step]["permissions"]
    assert permission["Principal"] == {"Service": "events.amazonaws.com"}
    assert permission["Action"] == "lambda:InvokeFunction"
    assert permission["Condition"]["ArnLike"] == {"AWS:SourceArn": rule["Arn"]}


def test_rule_sends_an_event_in_which_zappa_finds_the_function(account: Account) -> None:
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


@pytest.mark.parametrize("step", ["deploy", "update", "finish"])
def test_events_are_retried_once_wait_for_one_run_and_end_in_the_queue(account: Account, step: str) -> None:
    asynchronous = account.after[step]["asynchronous"]
    assert {key: asynchronous[key] for key in DELIVERY} == DELIVERY
    assert asynchronous["DestinationConfig"]["OnFailure"] == {"Destination": QUEUE}
    (target,) = account.after[step]["rules"][0]["Targets"]
    assert (target["RetryPolicy"], target["DeadLetterConfig"]) == (DELIVERY, {"Arn": QUEUE})


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("prepare", "The function streaming-production or its retries are missing: run `zappa deploy`, or `finish`."),
        ("unschedule", "0 rules call the function, not 1: run `zappa schedule`."),
        ("schedule", f"The rule {RULE} has other retries or another queue: run `finish`."),
        ("a change by hand", "The stack differs, run `prepare`: Add LagAlarm."),
    ],
)
def test_check_finds_the_difference_after(account: Account, step: str, said: str) -> None:
    assert account.checked[step] == (1, f"{said}\n")


def test_check_finds_nothing_after_any_other_step(account: Account) -> None:
    steps = ("deploy", "update", "finish", "repair", "rollback")
    assert {account.checked[step] for step in steps} == {(0, "check production: done.\n")}


def test_status_shows_the_function_and_its_rule(account: Account) -> None:
    assert RULE in account.said["status"]
    assert "python3.14" in account.said["status"]


def test_update_brings_the_new_code_and_rollback_the_old(account: Account, package: Path, other_package: Path) -> None:
    assert configuration(account, "update")["CodeSha256"] == code_hash(other_package)
    assert configuration(account, "rollback")["CodeSha256"] == code_hash(package)


def test_prepare_shows_changes_and_outputs_and_a_second_one_changes_nothing(account: Account) -> None:
    for line in ("Add StoppedAlarm", "CREATE_COMPLETE streaming-production-resources", QUEUE):
        assert line in account.said["prepare"]
    assert "streaming-production-resources: no change." in account.said["prepare again"]
    assert account.inventory["prepare again"] == account.inventory["prepare"]


def test_prepare_makes_a_deleted_alarm_anew(account: Account) -> None:
    assert "Add LagAlarm" in account.said["repair"]
    assert sorted(account.after["repair"]["resources"]["alarms"]) == sorted(resources(account)["alarms"])


def test_undeploy_leaves_what_the_docs_name_and_nothing_else(account: Account) -> None:
    section = DOCS.split("## What stays after undeploy")[1].split("\n## ")[0]
    named = {match for line in section.splitlines() if line.startswith("|") for match in re.findall(r"`([^`]+)`", line)}
    left = {name.rsplit("/", 1)[-1] if kind == "queues" else name.rsplit(":", 1)[-1]
            for kind, names in account.inventory["undeploy"].items() for name in names}  # fmt: skip
    assert left == named


def test_flush_needs_no_bucket_and_remove_leaves_nothing(account: Account) -> None:
    assert all("buckets" not in inventory for inventory in account.inventory.values())
    assert account.inventory["remove"] == account.inventory["remove again"] == {}


def test_alarms_watch_what_the_docs_say_and_tell_the_address(account: Account) -> None:
    rows = DOCS.split("## What it tells")[1].split("\n## ")[0].split("| alarm |")[1]
    alarms = resources(account)["alarms"]
    assert sorted(re.findall(r"^\| `(\w+)` \|", rows, re.MULTILINE)) == list(ALARMS)
    assert sorted(alarms) == [f"streaming-production-{name}" for name in ALARMS]
    assert all(alarm["AlarmDescription"] and alarm["AlarmActions"] == alarm["OKActions"] for alarm in alarms.values())
    (subscription,) = resources(account)["subscriptions"]  # kept by a `prepare` without --email
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", "ops@example.com")
    assert {action for alarm in alarms.values() for action in alarm["AlarmActions"]} == {subscription["TopicArn"]}


def test_alarms_wait_for_the_longest_run(account: Account) -> None:
    alarms = resources(account)["alarms"]
    stopped, behind = alarms["streaming-production-stopped"], alarms["streaming-production-behind"]
    assert (stopped["EvaluationPeriods"], stopped["DatapointsToAlarm"], stopped["Period"]) == (8, 8, 60)
    assert (stopped["ComparisonOperator"], stopped["TreatMissingData"]) == ("LessThanThreshold", "breaching")
    assert (behind["EvaluationPeriods"], behind["DatapointsToAlarm"]) == (32, 2)


def test_metrics_of_the_docs_are_those_that_are_written() -> None:
    section = DOCS.split("| metric |")[1].split("| alarm |")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(schedule.UNITS)


def test_log_and_failed_events_are_kept_for_a_time(account: Account) -> None:
    (log,) = resources(account)["logs"]
    assert (log["logGroupName"], log["retentionInDays"]) == ("/aws/lambda/streaming-production", 30)
    assert resources(account)["queue"]["MessageRetentionPeriod"] == str(14 * 86_400)


def test_only_rules_under_the_functions_name_leave_events_in_the_queue(account: Account) -> None:
    (statement,) = json.loads(resources(account)["queue"]["Policy"])["Statement"]
    assert (statement["Principal"], statement["Resource"]) == ({"Service": "events.amazonaws.com"}, QUEUE)
    rules = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/streaming-production-*"
    assert statement["Condition"] == {"ArnLike": {"aws:SourceArn": rules}}


def test_role_grants_its_own_log_and_queue_and_no_network_to_the_code_itself(account: Account) -> None:
    policy = resources(account)["policies"]["streaming-function"]
    assert allows(policy, "sqs:SendMessage", QUEUE)
    assert not allows(policy, "sqs:SendMessage", QUEUE.replace("production", "other"))
    assert not allows(policy, "logs:PutLogEvents", f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/other:x")
    (deny,) = [statement for statement in policy["Statement"] if statement["Effect"] == "Deny"]
    assert deny["Action"] == "ec2:*"
    assert deny["Condition"]["ArnEquals"]["lambda:SourceFunctionArn"].endswith(":function:streaming-production")


def refused(calls: list[Call], policies: list[dict[str, Any]]) -> set[tuple[str, str]]:
    assert calls
    return {
        (call.action, call.resource)
        for call in calls
        if call.action != "sts:GetCallerIdentity"  # always allowed
        and not any(allows(policy, call.action, call.resource) for policy in policies)
    }


def test_deployers_policy_grants_what_was_called_and_nothing_else(account: Account) -> None:
    policy, calls = resources(account)["policies"]["deployer"], account.deployer.calls
    assert refused(calls, [policy]) == set()
    assert actions_of(policy) - {call.action for call in calls} == NOT_IN_THE_RUN


def test_deployers_policy_reaches_no_other_function_and_changes_no_role(account: Account) -> None:
    policy = resources(account)["policies"]["deployer"]
    other = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:payments"
    assert not allows(policy, "lambda:UpdateFunctionCode", other)
    assert not allows(policy, "iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/admin")
    assert {action for action in actions_of(policy) if action.startswith("iam:")} == {"iam:GetRole", "iam:PassRole"}


@pytest.fixture(scope="module")
def api(server: AwsServer, package: Path, tmp_path_factory: pytest.TempPathFactory, account: Account) -> dict[str, Any]:
    """The stage of the web service, deployed, updated and removed; after the other, whose account it shares."""
    account.administrator.environment["PACKAGE_BUCKET"] = "streaming-templates"
    more = {"PACKAGE_BUCKET": "streaming-templates", "ALLOWED_HOSTS": ".amazonaws.com"}
    deployer = Deployer(server, tmp_path_factory.mktemp("api"), **SECRETS, **more)
    deployer.environment |= make_network(deployer)
    account.administrator.must("deploy/aws.py", "prepare", "production_api")
    found: dict[str, Any] = {"deployed": deployer.must("zappa", "deploy", "production_api", "--zip", str(package))}
    found["function"] = deployer.client("lambda").get_function(FunctionName=API_STAGE.function)["Configuration"]
    found["inventory"] = deployer.inventory()
    found["policies"] = policies_of(deployer, API_STAGE)
    deployer.must("zappa", "update", "production_api", "--zip", str(package))
    account.administrator.must("deploy/aws.py", "check", "production_api")
    deployer.must("zappa", "undeploy", "production_api", "--yes")
    account.administrator.must("deploy/aws.py", "remove", "production_api")
    found["left"] = deployer.inventory()
    found["calls"] = deployer.calls
    return found


def test_api_stage_has_a_gateway_and_no_clock_and_leaves_its_bucket_alone(api: dict[str, Any]) -> None:
    assert api["inventory"]["gateways"] == ["streaming-production-api"]
    assert "rules" not in api["inventory"]
    assert api["inventory"]["alarms"] == ["streaming-production-api-dead", "streaming-production-api-errors"]
    assert "execute-api" in api["deployed"]
    assert api["left"] == {"buckets": ["streaming-templates"]}


def test_api_stage_runs_the_same_code_with_its_own_settings(api: dict[str, Any], package: Path) -> None:
    assert (api["function"]["MemorySize"], api["function"]["Timeout"]) == (1024, 30)
    assert api["function"]["CodeSha256"] == code_hash(package)
    assert api["function"]["Environment"]["Variables"]["ALLOWED_HOSTS"] == ".amazonaws.com"


def test_api_gateway_calls_the_function_as_its_role(api: dict[str, Any], account: Account) -> None:
    assert allows(api["policies"]["streaming-gateway"], "lambda:InvokeFunction", api["function"]["FunctionArn"])
    assert "streaming-gateway" not in resources(account)["policies"]


def test_deployers_policies_of_the_api_grant_what_was_called_and_nothing_else(api: dict[str, Any]) -> None:
    policies = [api["policies"][name] for name in ("deployer", "deployer-gateway")]
    assert refused(api["calls"], policies) == set()
    assert actions_of(policies[1]) - {call.action for call in api["calls"]} == NOT_IN_THE_API_RUN


@pytest.fixture
def stranger(server: AwsServer, account: Account, tmp_path: Path) -> Deployer:
    """A user of the account after everything was removed from it."""
    return Deployer(server, tmp_path)


def test_deploy_without_the_values_names_them_and_makes_nothing(stranger: Deployer, package: Path) -> None:
    before = stranger.inventory()
    done = stranger.run("zappa", "deploy", "production", "--zip", str(package))
    assert done.returncode != 0
    assert "DATABASE_URL, REDIS_URL, SECRET_KEY, SECURITY_GROUP, SUBNET_A, SUBNET_B" in done.stderr + done.stdout
    assert stranger.inventory() == before


@pytest.mark.parametrize("command", ["finish", "check"])
def test_a_missing_stack_is_told_with_its_cure(stranger: Deployer, command: str) -> None:
    done = stranger.run("deploy/aws.py", command, "production")
    cure = "The stack streaming-production-resources is missing: run `python deploy/aws.py prepare production`.\n"
    assert (done.returncode, done.stderr) == (1, cure)


def test_a_stack_that_fails_is_told_with_its_cure_and_leaves_nothing(stranger: Deployer) -> None:
    iam, before = stranger.client("iam"), stranger.inventory()
    iam.create_role(RoleName="streaming-production-lambda", AssumeRolePolicyDocument="{}")
    done = stranger.run("deploy/aws.py", "prepare", "production")
    iam.delete_role(RoleName="streaming-production-lambda")
    assert done.returncode == 1
    assert "already exists" in done.stderr
    assert "A resource of that name exists outside the stack: delete it" in done.stderr
    assert stranger.inventory() == before


def test_prepare_refuses_an_account_that_cannot_reserve_concurrency(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_UNRESERVED_CONCURRENCY", "10")  # a new account has no more
    with AwsServer(tmp_path / "small") as small:
        stranger = Deployer(small, tmp_path)
        done = stranger.run("deploy/aws.py", "prepare", "production")
        assert done.returncode != 0
        assert "Service Quotas" in done.stderr
        assert stranger.inventory() == {}


def test_template_passes_cfn_lint_which_finds_a_mistake(tmp_path: Path) -> None:
    broken = tmp_path / "template.yaml"
    broken.write_text(deployment.TEMPLATE.read_text().replace("RetentionInDays: 30", "RetentionInDays: 29"))
    command = [sys.executable, "-c", "from cfnlint.runner import main; main()"]
    for template, found in ((deployment.TEMPLATE, ""), (broken, "E3030")):
        done = captured([*command, template])
        assert (done.returncode == 0, done.stdout[:5]) == (not found, found), done.stdout + done.stderr


def test_example_of_shared_shards_covers_each_once_under_names_that_zappa_takes() -> None:
    blocks = re.findall(r"```json\n(.*?)```", DOCS, re.DOTALL)
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
