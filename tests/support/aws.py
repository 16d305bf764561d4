"""An AWS account of the tests' own: moto's server, what was called there, and how IAM would have judged it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import boto3

from servers import ROOT, Server

REGION, ACCOUNT = "eu-central-1", "123456789012"


class AwsServer(Server):
    """moto's server, with the answers that it lacks."""

    name = "moto"

    @property
    def url(self) -> str:
        """The endpoint of every service."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def command(self) -> list[str | Path]:
        """See tests/support/moto_server.py."""
        return [sys.executable, "-m", "tests.support.moto_server", str(self.port)]

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            with urllib.request.urlopen(f"{self.url}/moto-api/", timeout=5):  # noqa: S310  a URL of ours
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
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
        """What IAM calls it. https://docs.aws.amazon.com/service-authorization/latest/reference/"""
        if self.service == "apigateway":
            return f"apigateway:{self.method}"
        special = {
            "s3:HeadBucket": "s3:ListBucket",
            "s3:ListObjectsV2": "s3:ListBucket",
            "lambda:GetFunctionEventInvokeConfig": "lambda:GetFunctionEventInvokeConfig",
        }
        name = f"{self.service}:{self.operation}"
        return special.get(name, name)

    @property
    def resource(self) -> str:
        """What IAM would judge it on: a full name, or `*` for what knows none."""
        find = _RESOURCES.get(self.service)
        found = None if find is None else find(self.operation, self.params)
        return found or "*"


def _lambda(_: str, params: Mapping[str, Any]) -> str | None:
    name = params.get("FunctionName") or params.get("Resource")
    if name is None:
        return None
    plain = str(name).rsplit("function:", 1)[-1].split(":")[0]
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{plain}"


def _events(_: str, params: Mapping[str, Any]) -> str | None:
    rule = params.get("Rule") or params.get("Name")
    return f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{rule}" if rule else None


def _iam(_: str, params: Mapping[str, Any]) -> str | None:
    return f"arn:aws:iam::{ACCOUNT}:role/{params['RoleName']}" if "RoleName" in params else None


def _sqs(_: str, params: Mapping[str, Any]) -> str | None:
    queue = params.get("QueueName") or str(params.get("QueueUrl", "")).rsplit("/", 1)[-1]
    return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}" if queue else None


def _sns(_: str, params: Mapping[str, Any]) -> str | None:
    return params.get("TopicArn") or f"arn:aws:sns:{REGION}:{ACCOUNT}:{params['Name']}"


def _logs(operation: str, params: Mapping[str, Any]) -> str | None:
    if operation == "DescribeLogGroups":
        return f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:*"
    return f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{params['logGroupName']}"


def _cloudwatch(operation: str, params: Mapping[str, Any]) -> str | None:
    names = params.get("AlarmNames") or [params.get("AlarmName")]
    return f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{names[0]}" if names[0] else None


def _s3(_: str, params: Mapping[str, Any]) -> str | None:
    return f"arn:aws:s3:::{params['Bucket']}" + (f"/{params['Key']}" if "Key" in params else "")


def _cloudformation(_: str, params: Mapping[str, Any]) -> str | None:
    return f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{params['StackName']}/1"


def _apigateway(_: str, params: Mapping[str, Any]) -> str | None:
    return f"arn:aws:apigateway:{REGION}::/restapis" + (f"/{params['restApiId']}" if "restApiId" in params else "")


_RESOURCES = {
    "lambda": _lambda, "events": _events, "iam": _iam, "sqs": _sqs, "sns": _sns, "logs": _logs, "s3": _s3,
    "cloudwatch": _cloudwatch, "cloudformation": _cloudformation, "apigateway": _apigateway,
}  # fmt: skip


def allows(policy: Mapping[str, Any], action: str, resource: str) -> bool:
    """Whether a policy of plain Allow statements, without conditions on the caller, permits this."""
    return any(
        any(fnmatchcase(action.lower(), pattern.lower()) for pattern in _listed(statement["Action"]))
        and any(resource == "*" or fnmatchcase(resource, pattern) for pattern in _listed(statement["Resource"]))
        for statement in policy["Statement"]
        if statement["Effect"] == "Allow"
    )


def actions_of(policy: Mapping[str, Any]) -> set[str]:
    """Every action that a policy allows, as written."""
    return {
        action
        for statement in policy["Statement"]
        if statement["Effect"] == "Allow"
        for action in _listed(statement["Action"])
    }


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


class Deployer:
    """Somebody with a checkout and credentials: runs Zappa and deploy/aws.py, and every call is noted."""

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
        """A client of the test's own; its calls are not the deployer's."""
        return self.session.client(service, endpoint_url=self.server.url)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run `zappa ...` or `deploy/aws.py ...` in the repository; the caller judges the exit code."""
        return subprocess.run(
            [sys.executable, "-m", "tests.support.record_aws", *command],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    def must(self, *command: str) -> str:
        """Run it, and return what it said; AssertionError when it failed."""
        done = self.run(*command)
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}\n{done.stderr}"
        return re.sub(r"\x1b\[\d+m", "", done.stdout + done.stderr)

    @property
    def calls(self) -> list[Call]:
        """Every call so far."""
        lines = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        return [Call(**json.loads(line)) for line in lines]

    def inventory(self) -> dict[str, list[str]]:
        """Everything of the services in use that is in the account now."""
        return {kind: sorted(found) for kind, found in self._inventory() if found}

    def _inventory(self) -> Iterator[tuple[str, list[str]]]:
        def named(service: str, operation: str, key: str, name: str) -> list[str]:
            return [item[name] for item in getattr(self.client(service), operation)().get(key, [])]

        yield "functions", named("lambda", "list_functions", "Functions", "FunctionName")
        yield "rules", named("events", "list_rules", "Rules", "Name")
        yield "roles", named("iam", "list_roles", "Roles", "RoleName")
        yield "alarms", named("cloudwatch", "describe_alarms", "MetricAlarms", "AlarmName")
        yield "log groups", named("logs", "describe_log_groups", "logGroups", "logGroupName")
        yield "topics", named("sns", "list_topics", "Topics", "TopicArn")
        yield "queues", self.client("sqs").list_queues().get("QueueUrls", [])
        yield "buckets", named("s3", "list_buckets", "Buckets", "Name")
        yield "stacks", named("cloudformation", "describe_stacks", "Stacks", "StackName")
        yield "gateways", named("apigateway", "get_rest_apis", "items", "name")
        yield "tables", self.client("dynamodb").list_tables()["TableNames"]
