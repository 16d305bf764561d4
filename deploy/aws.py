"""Makes what a stage needs beside Zappa's, through CloudFormation and deploy/template.yaml.

    python deploy/aws.py prepare STAGE    create or update the stack; before `zappa deploy`, and after any change
    python deploy/aws.py finish STAGE     set retries and dead-letter queue; after `zappa schedule`
    python deploy/aws.py check STAGE      print what differs from the repository; exit 1 if anything does
    python deploy/aws.py remove STAGE     delete the stack; after `zappa undeploy`

Every command is idempotent. `finish` needs the deployer's policy only; the others need an administrator.
Zappa calls `fill_in` and `finish_after_zappa` (zappa_settings.json, "callbacks").
One file of over 250 lines: run as a script and imported by Zappa, it would find a neighbour in one of the two only.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from click import ClickException  # Zappa's dependency

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "deploy" / "template.yaml"
RETRIES = 1  # The event of the next minute does the same work: more retries only pile up.
POLL_SECONDS = 2
# AWS keeps this many concurrent executions unreserved in every account, and fewer in a new one.
UNRESERVED_CONCURRENCY, UNRESERVED_CONCURRENCY_NEW = 100, 10
PLACEHOLDER = re.compile(r"\$([A-Z][A-Z0-9_]*)$")
CURES = {  # by a pattern of AWS's message
    "already exists": "A resource of that name exists outside the stack: delete it, then repeat the command.",
    "attached": "Detach the deployer's policies from users and roles, then repeat the command.",
    "not authorized|AccessDenied": "`finish` needs the policy for deployers; any other command, an administrator.",
    "can ?not be updated": "Wait until the stack is at rest; if it failed, run `remove`. Then repeat the command.",
    "region": "Set AWS_DEFAULT_REGION, or a region in the AWS profile.",
}


@dataclass(frozen=True)
class Stage:
    """One stage of zappa_settings.json."""

    name: str
    settings: dict[str, Any]

    @property
    def function(self) -> str:
        """The name that Zappa gives the Lambda function."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.settings['project_name']}-{self.name}".lower()).strip("-")

    @property
    def stack(self) -> str:
        """The stack's name. Zappa's own stack, of the API Gateway, has the name of the function."""
        return f"{self.function}-resources"

    @property
    def delivery(self) -> dict[str, int]:
        """How often an event is retried, and how long it may wait: for one whole run of the function."""
        age_seconds = max(60, int(self.settings["timeout_seconds"]))
        return {"MaximumRetryAttempts": RETRIES, "MaximumEventAgeInSeconds": age_seconds}

    def parameters(self, email: str | None) -> dict[str, str | None]:
        """The parameters of the template; None stands for the value that the stack has, or for the default."""
        quiet_minutes = int(self.settings["timeout_seconds"]) // 60 + 3
        called = [event["function"] for event in self.settings["events"]]
        return {
            "Function": self.function,
            "Role": self.settings["role_name"],
            "Gateway": json.dumps(self.settings["apigateway_enabled"]),
            "Flushes": json.dumps("streaming.schedule.flush" in called),
            "QuietMinutes": str(quiet_minutes),
            "BehindMinutes": str(4 * quiet_minutes),
            "Bucket": os.environ.get("PACKAGE_BUCKET"),
            "Email": email,
        }


def read_stage(name: str) -> Stage:
    """The stage, with what it extends. SystemExit if there is none of that name."""
    settings = json.loads((ROOT / "zappa_settings.json").read_text())
    if name not in settings:
        raise SystemExit(f"No stage {name!r} in zappa_settings.json; there are: {', '.join(settings)}.")
    own = settings[name]
    inherited = read_stage(own["extends"]).settings if "extends" in own else {}
    return Stage(name, {**inherited, **own})


def find_stack(stage: Stage) -> dict[str, Any]:
    """The stage's stack, as CloudFormation describes it; empty if there is none."""
    try:
        stack: dict[str, Any] = boto3.client("cloudformation").describe_stacks(StackName=stage.stack)["Stacks"][0]
    except ClientError as error:
        if "does not exist" not in str(error):
            raise
        return {}
    # A change set for a new stack that was never executed leaves a stack without resources.
    return {} if stack["StackStatus"] == "REVIEW_IN_PROGRESS" else stack


def find_queue(stage: Stage) -> str:
    """The ARN of the stage's dead-letter queue. SystemExit if the stack is missing."""
    for output in find_stack(stage).get("Outputs", []):
        if output["OutputKey"] == "DeadLetters":
            return str(output["OutputValue"])
    raise SystemExit(f"The stack {stage.stack} is missing: run `python deploy/aws.py prepare {stage.name}`.")


def plan(stage: Stage, email: str | None = None) -> dict[str, Any] | None:
    """A change set that brings the stack to the template and reverts changes by hand; None if there is no change."""
    cloudformation, update = boto3.client("cloudformation"), bool(find_stack(stage))
    unset = {"UsePreviousValue": True} if update else {}
    made = cloudformation.create_change_set(
        StackName=stage.stack,
        ChangeSetName=f"plan-{uuid.uuid4()}",
        TemplateBody=TEMPLATE.read_text(),
        Parameters=[
            {"ParameterKey": key, **(unset if value is None else {"ParameterValue": value})}
            for key, value in stage.parameters(email).items()
            if update or value is not None
        ],
        Capabilities=["CAPABILITY_NAMED_IAM"],
        ChangeSetType="UPDATE" if update else "CREATE",
        **({"DeploymentMode": "REVERT_DRIFT"} if update else {"OnStackFailure": "DELETE"}),
    )["Id"]
    found: dict[str, Any] = cloudformation.describe_change_set(ChangeSetName=made)
    while found["Status"] in {"CREATE_PENDING", "CREATE_IN_PROGRESS"}:
        time.sleep(POLL_SECONDS)
        found = cloudformation.describe_change_set(ChangeSetName=made)
    if found["Status"] != "FAILED":
        return found
    cloudformation.delete_change_set(ChangeSetName=made)
    if not re.search(r"didn't contain changes|No updates are to be performed", found["StatusReason"]):
        raise SystemExit(explain(f"CloudFormation refuses the template: {found['StatusReason']}"))
    return None


def changes_of(change_set: dict[str, Any]) -> list[str]:
    """One line for each change. Without a change of a resource, outputs or parameters changed."""
    changes = [change["ResourceChange"] for change in change_set["Changes"]]
    return [f"{change['Action']} {change['LogicalResourceId']}" for change in changes] or ["Modify the outputs"]


def prepare(stage: Stage, email: str | None) -> None:
    """Create or update the stack, and print its outputs."""
    if not find_stack(stage):
        refuse_small_account(stage)
    change_set = plan(stage, email)
    if change_set is None:
        print(f"{stage.stack}: no change.")
    else:
        print("\n".join(changes_of(change_set)))
        run(change_set["StackId"], "execute_change_set", ChangeSetName=change_set["ChangeSetId"])
    for output in find_stack(stage)["Outputs"]:
        print(f"{output['Description']}: {output['OutputValue']}")


def refuse_small_account(stage: Stage) -> None:
    """SystemExit if the account cannot reserve the stage's concurrency: `zappa deploy` would fail halfway."""
    reserved = stage.settings.get("lambda_concurrency") or 0
    limits = boto3.client("lambda").get_account_settings()["AccountLimit"]
    small = limits["ConcurrentExecutions"] <= UNRESERVED_CONCURRENCY
    kept = UNRESERVED_CONCURRENCY_NEW if small else UNRESERVED_CONCURRENCY
    if reserved and limits["UnreservedConcurrentExecutions"] - reserved < kept:
        raise SystemExit(
            f"This account may run {limits['ConcurrentExecutions']} functions at a time and keeps "
            f"{kept} unreserved: {reserved} cannot be reserved for {stage.function}. Ask for more "
            'under Service Quotas (Lambda, "Concurrent executions"), or set "lambda_concurrency" to null.'
        )


def run(stack_id: str, operation: str, **parameters: str) -> None:
    """Start an operation on a stack and print its events until it ends. SystemExit, with a cure, if it failed."""
    cloudformation, failures = boto3.client("cloudformation"), list[str]()
    old = cloudformation.describe_stack_events(StackName=stack_id)["StackEvents"]
    getattr(cloudformation, operation)(**parameters)
    while True:
        events = cloudformation.describe_stack_events(StackName=stack_id)["StackEvents"]
        for event in [event for event in reversed(events) if event not in old]:
            status = event["ResourceStatus"]
            line = f"{status} {event['LogicalResourceId']} {event.get('ResourceStatusReason', '')}".rstrip()
            print(line, flush=True)
            if "FAILED" in status or "ROLLBACK" in status:
                failures.append(line)
            if event.get("PhysicalResourceId") == stack_id and not status.endswith("_IN_PROGRESS"):
                if failures:
                    raise SystemExit(explain(f"It failed first at: {failures[0]}"))
                return
        old += events
        time.sleep(POLL_SECONDS)


def explain(message: str) -> str:
    """The message, with the cure that fits it."""
    return "\n".join([message, *(cure for pattern, cure in CURES.items() if re.search(pattern, message))])


def remove(stage: Stage) -> None:
    """Delete the stack, if there is one."""
    if stack := find_stack(stage):
        run(stack["StackId"], "delete_stack", StackName=stack["StackId"])


def finish(stage: Stage) -> None:
    """Set retries, age and dead-letter queue of events, on the function and on its rules.

    The template cannot: Zappa makes the function and the rules, and replaces the rules whenever it schedules.
    """
    queue = find_queue(stage)
    boto3.client("lambda").put_function_event_invoke_config(
        FunctionName=stage.function, **stage.delivery, DestinationConfig={"OnFailure": {"Destination": queue}}
    )
    for rule, target in targets_of(stage):
        wanted = {**target, "RetryPolicy": stage.delivery, "DeadLetterConfig": {"Arn": queue}}
        boto3.client("events").put_targets(Rule=rule, Targets=[wanted])


def targets_of(stage: Stage) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every rule that calls the function, with its target."""
    function = boto3.client("lambda").get_function_configuration(FunctionName=stage.function)["FunctionArn"]
    events = boto3.client("events")
    for page in events.get_paginator("list_rule_names_by_target").paginate(TargetArn=function):
        for rule in page["RuleNames"]:
            for target in events.list_targets_by_rule(Rule=rule)["Targets"]:
                yield rule, target


def differences(stage: Stage) -> Iterator[str]:
    """What differs from the state that `prepare` and `finish` leave, one sentence each."""
    queue, change_set = find_queue(stage), plan(stage)
    if change_set:
        boto3.client("cloudformation").delete_change_set(ChangeSetName=change_set["ChangeSetId"])
        yield from (f"The stack differs, run `prepare`: {change}." for change in changes_of(change_set))
    functions = boto3.client("lambda")
    try:
        targets = list(targets_of(stage))
        found = functions.get_function_event_invoke_config(FunctionName=stage.function)
    except functions.exceptions.ResourceNotFoundException:
        yield f"The function {stage.function} or its retries are missing: run `zappa deploy`, or `finish`."
        return
    failed = found.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
    if {**found, **stage.delivery} != found or failed != queue:
        yield f"The function {stage.function} has other retries or another queue: run `finish`."
    if len(targets) != len(stage.settings["events"]):
        yield f"{len(targets)} rules call the function, not {len(stage.settings['events'])}: run `zappa schedule`."
    for rule, target in targets:
        if {**target, "RetryPolicy": stage.delivery, "DeadLetterConfig": {"Arn": queue}} != target:
            yield f"The rule {rule} has other retries or another queue: run `finish`."


def fill_in(cli: Any) -> None:
    """Replace the placeholders in Zappa's settings by values of the environment. Zappa calls this.

    Only `deploy` and `update` need the values: ClickException names those that are missing.
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
    """Set retries and queue after `deploy` and `update`, which replace the rules. Zappa calls this."""
    finish(read_stage(cli.api_stage))


def main() -> int:
    """Run one command; 1 if `check` found a difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["prepare", "finish", "check", "remove"])
    parser.add_argument("stage")
    parser.add_argument("--email", help="prepare: the address that alarms are sent to; AWS asks it to confirm")
    arguments = parser.parse_args()
    stage, found = read_stage(arguments.stage), list[str]()
    try:
        if arguments.command == "prepare":
            prepare(stage, arguments.email)
        elif arguments.command == "check":
            found = list(differences(stage))
        else:
            {"finish": finish, "remove": remove}[arguments.command](stage)
    except (BotoCoreError, ClientError) as error:
        raise SystemExit(explain(str(error))) from error
    print("\n".join(found) or f"{arguments.command} {stage.name}: done.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
