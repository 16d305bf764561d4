"""What a deployment needs and Zappa cannot set: role, dead-letter queue, log retention, event age, retries, alarms.

    python deploy/aws.py policy STAGE [KIND]     print a policy of deploy/policies, filled in; `deployer` by default
    python deploy/aws.py prepare STAGE           before `zappa deploy`: role, queue, log group, topic of the alarms
    python deploy/aws.py finish STAGE            after `zappa schedule`; `deploy` and `update` call it by themselves
    python deploy/aws.py check STAGE             say what differs from what is written here; exit 1 where anything does
    python deploy/aws.py remove STAGE            after `zappa undeploy`: everything that `prepare` and `finish` made

Every command may be repeated. Zappa calls `fill_in` and `finish_after_zappa` (zappa_settings.json, "callbacks").
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import string
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError
from click import ClickException  # Zappa's own

ROOT = Path(__file__).resolve().parent.parent
POLICIES = Path(__file__).resolve().parent / "policies"
KINDS = sorted(path.stem for path in POLICIES.glob("*.json"))
POLICY_NAME = "streaming"
NAMESPACE = "Streaming/Flush"  # of the metrics that streaming/schedule.py writes
LOG_DAYS = 30
DEAD_LETTER_SECONDS = 14 * 86_400
RETRIES = 1  # the next minute's event does the same work: more repeats would only pile up
LAG_SECONDS = 180  # three of the clock's minutes
# AWS keeps so much unreserved in every account; in a new one, which may have 10 in all, those.
UNRESERVED_CONCURRENCY, UNRESERVED_CONCURRENCY_NEW = 100, 10
PLACEHOLDER = re.compile(r"\$([A-Z][A-Z0-9_]*)$")


@dataclass(frozen=True)
class Stage:
    """One stage of zappa_settings.json, and the names of everything that belongs to it."""

    name: str
    settings: dict[str, Any]

    @property
    def function(self) -> str:
        """The Lambda function, as Zappa names it."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.settings['project_name']}-{self.name}".lower()).strip("-")

    @property
    def role(self) -> str:
        """The role that the function runs as."""
        return str(self.settings["role_name"])

    @property
    def queue(self) -> str:
        """Where events go that failed for good."""
        return f"{self.function}-dead"

    @property
    def topic(self) -> str:
        """Where alarms are announced."""
        return f"{self.function}-alarms"

    @property
    def log_group(self) -> str:
        """Where the function's log goes."""
        return f"/aws/lambda/{self.function}"

    @property
    def event_age_seconds(self) -> int:
        """How long an event may wait while a longer run holds the function: one whole run."""
        return max(60, int(self.settings["timeout_seconds"]))

    @property
    def flushes(self) -> bool:
        """Whether the clock runs the flush in this stage."""
        return any(event["function"] == "streaming.schedule.flush" for event in self.settings["events"])

    @property
    def gateway(self) -> bool:
        """Whether API Gateway stands before it."""
        return bool(self.settings["apigateway_enabled"])


def read_stage(name: str) -> Stage:
    """The stage with what it extends. SystemExit where there is none of that name."""
    settings = json.loads((ROOT / "zappa_settings.json").read_text())
    if name not in settings:
        raise SystemExit(f"No stage {name!r} in zappa_settings.json; there are: {', '.join(settings)}.")
    own = settings[name]
    inherited = read_stage(own["extends"]).settings if "extends" in own else {}
    return Stage(name, {**inherited, **own})


@dataclass(frozen=True)
class Place:
    """The account and region that the credentials lead to."""

    session: boto3.Session
    region: str
    account: str
    partition: str

    def client(self, service: str) -> Any:
        """A client of one service."""
        return self.session.client(service, region_name=self.region)

    def arn(self, service: str, resource: str) -> str:
        """The full name of something in this account and region."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"

    def role_arn(self, role: str) -> str:
        """The full name of a role; roles know no region."""
        return f"arn:{self.partition}:iam::{self.account}:role/{role}"


def find_place() -> Place:
    """Where the credentials lead. SystemExit where no region is set."""
    session = boto3.Session()
    if not session.region_name:
        raise SystemExit("Set AWS_DEFAULT_REGION, or a region in the AWS profile.")
    caller = session.client("sts").get_caller_identity()
    return Place(session, session.region_name, caller["Account"], caller["Arn"].split(":")[1])


def read_policy(kind: str, stage: Stage, *, region: str, account: str, partition: str = "aws") -> dict[str, Any]:
    """A policy from deploy/policies, filled in for a stage, account and region."""
    values = {"region": region, "account": account, "partition": partition}
    values |= {"function": stage.function, "role": stage.role}
    values["bucket"] = os.environ.get("PACKAGE_BUCKET", f"{stage.function}-package")
    policy: dict[str, Any] = json.loads(string.Template((POLICIES / f"{kind}.json").read_text()).substitute(values))
    return policy


def prepare(stage: Stage, place: Place, *, email: str | None = None) -> None:
    """Make what must be there before the function is."""
    warn_of_small_account(stage, place)
    make_role(stage, place)
    place.client("sqs").create_queue(
        QueueName=stage.queue,
        Attributes={"MessageRetentionPeriod": str(DEAD_LETTER_SECONDS), "SqsManagedSseEnabled": "true"},
    )
    logs = place.client("logs")
    with contextlib.suppress(logs.exceptions.ResourceAlreadyExistsException):
        logs.create_log_group(logGroupName=stage.log_group)
    logs.put_retention_policy(logGroupName=stage.log_group, retentionInDays=LOG_DAYS)
    topic = place.client("sns").create_topic(Name=stage.topic)["TopicArn"]
    if email:
        place.client("sns").subscribe(TopicArn=topic, Protocol="email", Endpoint=email)


def warn_of_small_account(stage: Stage, place: Place) -> None:
    """Say it now when the account cannot reserve what the stage asks for: `zappa deploy` would fail halfway."""
    reserved = stage.settings.get("lambda_concurrency") or 0
    limits = place.client("lambda").get_account_settings()["AccountLimit"]
    small = limits["ConcurrentExecutions"] <= UNRESERVED_CONCURRENCY
    kept = UNRESERVED_CONCURRENCY_NEW if small else UNRESERVED_CONCURRENCY
    if reserved and limits["UnreservedConcurrentExecutions"] - reserved < kept:
        raise SystemExit(
            f"This account may run {limits['ConcurrentExecutions']} functions at a time and keeps "
            f"{kept} unreserved: {reserved} cannot be reserved for {stage.function}. Ask for more "
            'under Service Quotas (Lambda, "Concurrent executions"), or set "lambda_concurrency" to null.'
        )


def make_role(stage: Stage, place: Place) -> None:
    """The role, its trust and its policies, as deploy/policies has them."""
    iam = place.client("iam")
    known = {"region": place.region, "account": place.account, "partition": place.partition}
    trust = json.dumps(read_policy("trust", stage, **known))
    try:
        iam.create_role(RoleName=stage.role, AssumeRolePolicyDocument=trust)
    except iam.exceptions.EntityAlreadyExistsException:
        iam.update_assume_role_policy(RoleName=stage.role, PolicyDocument=trust)
    for kind in policies_of(stage):
        document = json.dumps(read_policy(kind, stage, **known))
        iam.put_role_policy(RoleName=stage.role, PolicyName=f"{POLICY_NAME}-{kind}", PolicyDocument=document)
    iam.get_waiter("role_exists").wait(RoleName=stage.role)


def policies_of(stage: Stage) -> list[str]:
    """Which policies the stage's role holds."""
    return ["function", "gateway"] if stage.gateway else ["function"]


def finish(stage: Stage, place: Place) -> None:
    """Set event age, retries and dead-letter queue, of the function and of its rules; and the alarms."""
    queue = place.arn("sqs", stage.queue)
    place.client("lambda").put_function_event_invoke_config(
        FunctionName=stage.function,
        MaximumRetryAttempts=RETRIES,
        MaximumEventAgeInSeconds=stage.event_age_seconds,
        DestinationConfig={"OnFailure": {"Destination": queue}},
    )
    rules = list(rules_of(stage, place))
    events = place.client("events")
    for rule in rules:
        for target in events.list_targets_by_rule(Rule=rule)["Targets"]:
            events.put_targets(Rule=rule, Targets=[{**target, **delivery(stage, queue)}])
    if rules:
        let_rules_send(stage, place, rules)
    cloudwatch = place.client("cloudwatch")
    for alarm in alarms(stage, place):
        cloudwatch.put_metric_alarm(**alarm)


def delivery(stage: Stage, queue: str) -> dict[str, Any]:
    """How EventBridge hands an event over to Lambda, and where it leaves what it cannot hand over."""
    return {
        "RetryPolicy": {"MaximumRetryAttempts": RETRIES, "MaximumEventAgeInSeconds": stage.event_age_seconds},
        "DeadLetterConfig": {"Arn": queue},
    }


def rules_of(stage: Stage, place: Place) -> Iterator[str]:
    """Names of the rules that call the function."""
    pages = place.client("events").get_paginator("list_rule_names_by_target")
    for page in pages.paginate(TargetArn=place.arn("lambda", f"function:{stage.function}")):
        yield from page["RuleNames"]


def let_rules_send(stage: Stage, place: Place, rules: list[str]) -> None:
    """Only the stage's own rules may leave undelivered events in its queue."""
    sqs = place.client("sqs")
    statement = {
        "Sid": "RulesLeaveWhatTheyCannotDeliver",
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": place.arn("sqs", stage.queue),
        "Condition": {"ArnEquals": {"aws:SourceArn": sorted(place.arn("events", f"rule/{rule}") for rule in rules)}},
    }
    sqs.set_queue_attributes(
        QueueUrl=sqs.get_queue_url(QueueName=stage.queue)["QueueUrl"],
        Attributes={"Policy": json.dumps({"Version": "2012-10-17", "Statement": [statement]})},
    )


def alarms(stage: Stage, place: Place) -> list[dict[str, Any]]:
    """The stage's alarms, as CloudWatch takes them."""
    run_minutes = int(stage.settings["timeout_seconds"]) // 60
    chosen = [*flush_alarms(run_minutes), *COMMON_ALARMS] if stage.flushes else COMMON_ALARMS
    return [one.as_request(stage, place) for one in chosen]


@dataclass(frozen=True)
class Alarm:
    """Announced when the metric is off in `points` of the last `minutes`, and again when that is over."""

    name: str
    meaning: str
    metric: str  # namespace, then name
    statistic: str
    comparison: str
    threshold: float
    minutes: int
    points: int
    missing: str = "notBreaching"

    def as_request(self, stage: Stage, place: Place) -> dict[str, Any]:
        """The parameters of PutMetricAlarm."""
        namespace, _, metric = self.metric.rpartition("/")
        dimension = {"AWS/SQS": "QueueName", "AWS/Lambda": "FunctionName", NAMESPACE: "Function"}[namespace]
        topic = place.arn("sns", stage.topic)
        return {
            "AlarmName": f"{stage.function}-{self.name}",
            "AlarmDescription": self.meaning,
            "Namespace": namespace,
            "MetricName": metric,
            "Dimensions": [{"Name": dimension, "Value": stage.queue if namespace == "AWS/SQS" else stage.function}],
            "Statistic": self.statistic,
            "Period": 60,
            "EvaluationPeriods": self.minutes,
            "DatapointsToAlarm": self.points,
            "ComparisonOperator": self.comparison,
            "Threshold": self.threshold,
            "TreatMissingData": self.missing,
            "AlarmActions": [topic],
            "OKActions": [topic],
        }


ABOVE, FROM, BELOW = "GreaterThanThreshold", "GreaterThanOrEqualToThreshold", "LessThanThreshold"
COMMON_ALARMS = [
    Alarm("errors", "Invocations fail; the log says why.", "AWS/Lambda/Errors", "Sum", FROM, 1, 5, 2),
    Alarm(
        "dead", "Events failed for good, or waited too long for their turn.",
        "AWS/SQS/ApproximateNumberOfMessagesVisible", "Maximum", FROM, 1, 1, 1,
    ),
]  # fmt: skip


def flush_alarms(run_minutes: int) -> list[Alarm]:
    """What to be told of the flush; a run may last `run_minutes`."""
    quiet = run_minutes + 3
    return [
        Alarm(
            "stopped", "No run of the flush has ended for minutes: counts gather in Redis.",
            f"{NAMESPACE}/Duration", "SampleCount", BELOW, 1, quiet, quiet, missing="breaching",
        ),
        Alarm(
            "lag", "The rows are minutes behind Redis: runs fail.", f"{NAMESPACE}/Lag", "Maximum", ABOVE,
            LAG_SECONDS, 3, 3,
        ),
        Alarm(
            "behind", "Runs end before their work is done: spread the shards over several events.",
            f"{NAMESPACE}/Incomplete", "Sum", FROM, 1, 4 * quiet, 2,
        ),
        Alarm(
            "rewound", "Redis had forgotten batches: it was restored or replaced. Likes are exact; views may be off.",
            f"{NAMESPACE}/Rewound", "Sum", FROM, 1, 1, 1,
        ),
        Alarm(
            "rejected", "Malformed fields were kept aside in Redis: does somebody else write there?",
            f"{NAMESPACE}/Rejected", "Sum", FROM, 1, 1, 1,
        ),
    ]  # fmt: skip


def differences(stage: Stage, place: Place) -> Iterator[str]:
    """What is not as `prepare` and `finish` leave it, a sentence each."""
    yield from _role_differences(stage, place)
    yield from _delivery_differences(stage, place)
    cloudwatch = place.client("cloudwatch")
    for wanted in alarms(stage, place):
        found = cloudwatch.describe_alarms(AlarmNames=[wanted["AlarmName"]])["MetricAlarms"]
        if not found or any(found[0].get(key) != value for key, value in wanted.items()):
            yield f"The alarm {wanted['AlarmName']} is {'different' if found else 'missing'}."
    groups = place.client("logs").describe_log_groups(logGroupNamePrefix=stage.log_group)["logGroups"]
    if not any(group["logGroupName"] == stage.log_group and group.get("retentionInDays") for group in groups):
        yield f"The log group {stage.log_group} is kept for ever."


def _role_differences(stage: Stage, place: Place) -> Iterator[str]:
    iam = place.client("iam")
    for kind in policies_of(stage):
        wanted = read_policy(kind, stage, region=place.region, account=place.account, partition=place.partition)
        try:
            found = iam.get_role_policy(RoleName=stage.role, PolicyName=f"{POLICY_NAME}-{kind}")["PolicyDocument"]
        except iam.exceptions.NoSuchEntityException:
            found = None
        if found != wanted:
            yield f"The policy {kind} of the role {stage.role} is {'different' if found else 'missing'}."


def _delivery_differences(stage: Stage, place: Place) -> Iterator[str]:
    functions, events = place.client("lambda"), place.client("events")
    queue = place.arn("sqs", stage.queue)
    try:
        invoked = functions.get_function_event_invoke_config(FunctionName=stage.function)
        found = (
            invoked.get("MaximumRetryAttempts"),
            invoked.get("MaximumEventAgeInSeconds"),
            invoked.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination"),
        )
    except functions.exceptions.ResourceNotFoundException:
        found = (None, None, None)
    if found != (RETRIES, stage.event_age_seconds, queue):
        yield f"Retries, event age and dead-letter queue of {stage.function} are {found}."
    rules = list(rules_of(stage, place))
    if len(rules) != len(stage.settings["events"]):
        yield f"{len(rules)} rules call the function, not {len(stage.settings['events'])}: run `zappa schedule`."
    for rule in rules:
        for target in events.list_targets_by_rule(Rule=rule)["Targets"]:
            if {**target, **delivery(stage, queue)} != target:
                yield f"The rule {rule} repeats and leaves events as it likes."


def remove(stage: Stage, place: Place) -> None:
    """Take away what `prepare` and `finish` made; what is gone already is no error."""
    names = [alarm["AlarmName"] for alarm in alarms(stage, place)]
    place.client("cloudwatch").delete_alarms(AlarmNames=names)
    sqs, logs, iam = place.client("sqs"), place.client("logs"), place.client("iam")
    _unless_gone(lambda: sqs.delete_queue(QueueUrl=sqs.get_queue_url(QueueName=stage.queue)["QueueUrl"]))
    _unless_gone(lambda: logs.delete_log_group(logGroupName=stage.log_group))
    place.client("sns").delete_topic(TopicArn=place.arn("sns", stage.topic))
    for kind in policies_of(stage):
        policy = f"{POLICY_NAME}-{kind}"
        _unless_gone(partial(iam.delete_role_policy, RoleName=stage.role, PolicyName=policy))
    _unless_gone(lambda: iam.delete_role(RoleName=stage.role))


def _unless_gone(step: Callable[[], object]) -> None:
    try:
        step()
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if not re.search(r"NoSuchEntity|NotFound|NonExistentQueue|QueueDoesNotExist", code):
            raise


def fill_in(cli: Any) -> None:
    """Called by Zappa once it has read its settings: put the environment's values where the settings name them.

    Only `deploy` and `update` need them; ClickException of Zappa's names what is missing.
    """
    missing: set[str] = set()

    def value_of(text: Any) -> Any:
        found = PLACEHOLDER.match(text) if isinstance(text, str) else None
        if not found:
            return text
        if not os.environ.get(found[1]):
            missing.add(found[1])
        return os.environ.get(found[1], "")

    cli.aws_environment_variables = {key: value_of(text) for key, text in cli.aws_environment_variables.items()}
    cli.vpc_config = {key: [value_of(text) for text in texts] for key, texts in cli.vpc_config.items()}
    cli.s3_bucket_name = value_of(cli.s3_bucket_name)
    if missing and cli.command in {"deploy", "update"}:
        raise ClickException(f"Set in the environment what zappa_settings.json names: {', '.join(sorted(missing))}.")


def finish_after_zappa(cli: Any) -> None:
    """Called by Zappa at the end of `deploy` and `update`, which made the rules anew."""
    finish(read_stage(cli.api_stage), find_place())


def main() -> int:
    """Run one command; 1 where `check` found a difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["policy", "prepare", "finish", "check", "remove"])
    parser.add_argument("stage")
    parser.add_argument("kind", nargs="?", choices=KINDS, default="deployer")
    parser.add_argument("--email", help="prepare: who is told of alarms; AWS asks them to confirm")
    arguments = parser.parse_args()
    stage, place = read_stage(arguments.stage), find_place()
    if arguments.command == "policy":
        known = {"region": place.region, "account": place.account, "partition": place.partition}
        print(json.dumps(read_policy(arguments.kind, stage, **known), indent=4))
        return 0
    if arguments.command == "check":
        found = list(differences(stage, place))
        print("\n".join(found) or f"{stage.function}: everything is as it should be.")
        return 1 if found else 0
    if arguments.command == "prepare":
        prepare(stage, place, email=arguments.email)
    elif arguments.command == "finish":
        finish(stage, place)
    else:
        remove(stage, place)
    print(f"{arguments.command} {stage.name}: done in account {place.account}, {place.region}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
