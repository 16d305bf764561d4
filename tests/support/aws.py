"""A private AWS account for tests: moto's server, the calls that were made, and how IAM would have judged them."""

import contextlib
import itertools
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import boto3

from servers import ROOT, Server
from tests.support.packages import captured
from tests.support.runtime_api import ACCOUNT, REGION


class AwsServer(Server):
    """moto's server, with the additions of tests/support/moto_server.py."""

    name = "moto"

    @property
    def url(self) -> str:
        """The endpoint of every service."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def command(self) -> list[str | Path]:
        """The command that starts it."""
        return [sys.executable, "-m", "tests.support.moto_server", str(self.port)]

    def ready(self) -> bool:
        """Whether it answers."""
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/moto-api/", timeout=5):  # noqa: S310
            return True
        return False


@dataclass(frozen=True)
class Call:
    """One call that a deployer's program made."""

    service: str
    operation: str
    method: str
    params: dict[str, Any]

    @property
    def action(self) -> str:
        """The name of the action in IAM. https://docs.aws.amazon.com/service-authorization/latest/reference/"""
        if self.service == "apigateway":
            return f"apigateway:{self.method}"
        special = {"s3:HeadBucket": "s3:ListBucket", "s3:ListObjectsV2": "s3:ListBucket"}
        name = f"{self.service}:{self.operation}"
        return special.get(name, name)

    @property
    def resource(self) -> str:
        """The ARN that IAM would judge the call on, or `*` where the action takes none."""
        if self.service == "s3":
            return f"arn:aws:s3:::{self.params['Bucket']}" + (f"/{self.params['Key']}" if "Key" in self.params else "")
        if self.service == "apigateway":
            return "/".join([f"arn:aws:apigateway:{REGION}::/restapis", *filter(None, [self.params.get("restApiId")])])
        service, *names = ARNS.get(self.service, ("*",))
        found = next((str(self.params[name]) for name in names if self.params.get(name)), None)
        plain = (found or "").rsplit("function:", 1)[-1].split(":")[0]  # of an ARN, the name of the function
        return f"arn:aws:{service}".format(plain) if found else "*"


ARNS = {  # by service: the ARN, and the parameters that may hold the name
    "lambda": (f"lambda:{REGION}:{ACCOUNT}:function:{{}}", "FunctionName", "Resource"),
    "events": (f"events:{REGION}:{ACCOUNT}:rule/{{}}", "Rule", "Name"),
    "iam": (f"iam::{ACCOUNT}:role/{{}}", "RoleName"),
    "cloudformation": (f"cloudformation:{REGION}:{ACCOUNT}:stack/{{}}/1", "StackName"),
}


def allows(policy: Mapping[str, Any], action: str, resource: str) -> bool:
    """Whether a policy of plain Allow statements, without conditions on the caller, permits this."""
    return any(
        fnmatchcase(action.lower(), granted.lower()) and (resource == "*" or fnmatchcase(resource, pattern))
        for granted, pattern in _grants(policy)
    )


def actions_of(policy: Mapping[str, Any]) -> set[str]:
    """Every action that a policy allows, as written."""
    return {action for action, _ in _grants(policy)}


def _grants(policy: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for statement in policy["Statement"]:
        if statement["Effect"] == "Allow":
            yield from itertools.product(_listed(statement["Action"]), _listed(statement["Resource"]))


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


class Deployer:
    """A user with a checkout and credentials, who runs Zappa and deploy/aws.py. Every call is recorded."""

    def __init__(self, server: AwsServer, folder: Path, **environment: str) -> None:
        self.server = server
        self.folder = folder
        self.calls_file = folder / "calls.jsonl"
        self.session = boto3.Session("AKIAEXAMPLE", "example", region_name=REGION)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "AWS_ENDPOINT_URL": server.url,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "example",
            "AWS_EC2_METADATA_DISABLED": "true",
            "RECORD_AWS": str(self.calls_file),
            **environment,
        }

    def client(self, service: str) -> Any:
        """A client for the test itself; its calls are not recorded."""
        return self.session.client(service, endpoint_url=self.server.url)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run `zappa ...` or `deploy/aws.py ...` in the repository; the caller judges the exit code."""
        command = (sys.executable, "-m", "tests.support.record_aws", *command)
        return captured(command, cwd=ROOT, env=self.environment, timeout=120, stdin=subprocess.DEVNULL)

    def must(self, *command: str) -> str:
        """Run the command and return its output. AssertionError if it failed."""
        done = self.run(*command)
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}\n{done.stderr}"
        return re.sub(r"\x1b\[\d+m", "", done.stdout + done.stderr)

    @property
    def calls(self) -> list[Call]:
        """Every call so far."""
        lines = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        return [Call(**json.loads(line)) for line in lines]

    def inventory(self) -> dict[str, list[str]]:
        """The names of everything in the account now, by kind."""
        return {kind: sorted(found) for kind, found in self._inventory() if found}

    def _inventory(self) -> Iterator[tuple[str, list[str]]]:
        def named(service: str, operation: str, key: str, name: str) -> list[str]:
            return [item[name] for item in getattr(self.client(service), operation)().get(key, [])]

        yield "functions", named("lambda", "list_functions", "Functions", "FunctionName")
        yield "rules", named("events", "list_rules", "Rules", "Name")
        yield "roles", named("iam", "list_roles", "Roles", "RoleName")
        policies = self.client("iam").list_policies(Scope="Local")["Policies"]
        yield "policies", [policy["PolicyName"] for policy in policies]
        yield "alarms", named("cloudwatch", "describe_alarms", "MetricAlarms", "AlarmName")
        yield "log groups", named("logs", "describe_log_groups", "logGroups", "logGroupName")
        yield "topics", named("sns", "list_topics", "Topics", "TopicArn")
        yield "queues", self.client("sqs").list_queues().get("QueueUrls", [])
        yield "buckets", named("s3", "list_buckets", "Buckets", "Name")
        yield "stacks", named("cloudformation", "describe_stacks", "Stacks", "StackName")
        yield "gateways", named("apigateway", "get_rest_apis", "items", "name")
        yield "tables", self.client("dynamodb").list_tables()["TableNames"]
