"""moto's server with additions that a deployment needs: python -m tests.support.moto_server PORT

Lambda: ListFunctionUrlConfigs (`zappa update`), GetAccountSettings (`prepare`; AWS_UNRESERVED_CONCURRENCY is what the
account may reserve), the status 201 of AddPermission, a URL for the code of each version (`zappa rollback` fetches it).
CloudFormation: alarms and queue policies; deletion of REST APIs and managed policies; change sets that end as AWS's do.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote

import boto3
from moto.apigateway.models import RestAPI, apigateway_backends
from moto.awslambda import urls
from moto.awslambda.models import LambdaFunction
from moto.awslambda.responses import LambdaResponse
from moto.cloudformation.models import CloudFormationBackend
from moto.cloudformation.responses import CloudFormationResponse
from moto.cloudwatch.models import cloudwatch_backends
from moto.core.common_models import CloudFormationModel
from moto.core.exceptions import ServiceException
from moto.iam.models import ManagedPolicy, Role, iam_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.exceptions import HTTPException
from werkzeug.serving import make_server

MOTO = DomainDispatcherApplication(create_backend_app)
CODE: dict[str, bytes] = {}  # by its path
GET_CODE = LambdaFunction.get_code
GET_FUNCTION = LambdaResponse.get_function
CREATE_CHANGE_SET = CloudFormationBackend.create_change_set
EXECUTE_CHANGE_SET = CloudFormationBackend.execute_change_set
PUT_ROLE_POLICY = Role.put_policy


def list_function_url_configs(self: LambdaResponse) -> str:
    """Answer as AWS does for a function without a URL, which is all that our stages have."""
    return json.dumps({"FunctionUrlConfigs": []})


def get_account_settings(self: LambdaResponse) -> str:
    """Answer with the limits of an account as large as the test wishes."""
    unreserved = int(os.environ.get("AWS_UNRESERVED_CONCURRENCY", "1000"))
    limit = {"ConcurrentExecutions": unreserved, "UnreservedConcurrentExecutions": unreserved}
    return json.dumps({"AccountLimit": limit, "AccountUsage": {}})


def add_permission(self: LambdaResponse) -> tuple[int, dict[str, Any], str]:
    """Say 201 as AWS does; Zappa takes anything else for a failure."""
    function, qualifier = unquote(self.path.split("/")[-2]), self.querystring.get("Qualifier", [None])[0]
    statement = self.backend.add_permission(function, qualifier, self.body)
    return 201, {"status": 201}, json.dumps({"Statement": json.dumps(statement)})


def get_function(self: LambdaResponse) -> str:
    """Understand `function:NAME:VERSION`, one of AWS's ways to name a function."""
    name, _, version = unquote(self.path).rsplit("/", 1)[-1].removeprefix("function:").partition(":")
    return json.dumps(self.backend.get_function(name, version).get_code()) if version else GET_FUNCTION(self)


def delete_rest_api(
    cls: type[RestAPI], resource_name: str, cloudformation_json: dict[str, Any], account_id: str, region_name: str
) -> None:
    """Delete a REST API with its stack."""
    apigateway_backends[account_id][region_name].delete_rest_api(resource_name)


def put_role_policy(self: Role, policy_name: str, policy_json: Any) -> None:
    """Keep the policies of a role in a template as JSON; moto keeps Python's text of the dict."""
    PUT_ROLE_POLICY(self, policy_name, policy_json if isinstance(policy_json, str) else json.dumps(policy_json))


def delete_managed_policy(self: ManagedPolicy, account_id: str, _region_name: str) -> None:
    """Delete a managed policy with its stack."""
    iam_backends[account_id]["aws"].delete_policy(self.arn)


def add_resource(kind: str, make: Callable[..., object], unmake: Callable[[str], object]) -> type[Any]:
    """Let stacks hold one more kind of resource: `make` takes its properties, `unmake` its name."""

    def create(cls: type[Any], /, name: str, template: dict[str, Any], *_: str, **__: str) -> Any:
        make(**template["Properties"])
        made = cls()
        made.physical_resource_id = template["Properties"].get("AlarmName", name)
        return made

    methods = {
        "__module__": "tests.support.moto_server",  # moto takes a part of it for the name of the service
        "cloudformation_type": staticmethod(lambda: kind),
        "create_from_cloudformation_json": classmethod(create),
        "delete": lambda self, *_: unmake(self.physical_resource_id),
        "physical_resource_id": "",
    }
    return type(kind, (CloudFormationModel,), methods)


def set_queue_policy(Queues: list[str], PolicyDocument: dict[str, Any]) -> None:  # noqa: N803  names of the template
    """Set the policy of each queue."""
    for queue in Queues:
        boto3.client("sqs").set_queue_attributes(QueueUrl=queue, Attributes={"Policy": json.dumps(PolicyDocument)})


ALARM = add_resource(
    "AWS::CloudWatch::Alarm",
    lambda **properties: boto3.client("cloudwatch").put_metric_alarm(**properties),
    lambda name: boto3.client("cloudwatch").delete_alarms(AlarmNames=[name]),
)
QUEUE_POLICY = add_resource("AWS::SQS::QueuePolicy", set_queue_policy, lambda _: None)  # it goes with its queue


def create_change_set(self: CloudFormationBackend, stack_name: str, change_set_type: str, **options: Any) -> Any:
    """Notice alarms that were deleted by hand, as AWS does for a change set that reverts drift."""
    if change_set_type == "UPDATE":
        stack = self.get_stack(stack_name)
        resources, alarms = stack.resource_map, cloudwatch_backends[self.account_id][self.region_name].alarms
        for name, made in list(resources._parsed_resources.items()):
            if isinstance(made, ALARM) and made.physical_resource_id not in alarms:
                del resources._parsed_resources[name], resources._resource_json_map[name]
                stack.template = "{}"  # not what the change set wants: there is a change
    return CREATE_CHANGE_SET(self, stack_name=stack_name, change_set_type=change_set_type, **options)


def execute_change_set(self: CloudFormationBackend, change_set_name: str, stack_name: str | None = None) -> None:
    """Report a failure in the stack's events and delete a new stack that failed, as OnStackFailure=DELETE does."""
    change_set = self.change_sets[change_set_name]
    stack = change_set.stack
    try:
        EXECUTE_CHANGE_SET(self, change_set_name, stack_name)
        stack.parameters = {name: str(value) for name, value in stack.stack_parameters.items()}
        stack.template_dict = change_set.template_dict
        stack.output_map = stack._create_output_map()  # moto's is empty for a stack that a change set made
    except (HTTPException, ServiceException) as error:
        stack._add_stack_event("CREATE_FAILED", resource_status_reason=str(error))
        self.delete_stack(stack.stack_id)


def get_code(self: LambdaFunction) -> dict[str, Any]:
    """Answer GetFunction with a place on this server; moto's own leads to Amazon."""
    path = f"/code/{hashlib.sha256(self.code_bytes).hexdigest()}"
    CODE[path] = self.code_bytes
    return {**GET_CODE(self), "Code": {"RepositoryType": "S3", "Location": os.environ["AWS_ENDPOINT_URL"] + path}}


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """moto's application, and the code of every version that was asked for."""
    found = CODE.get(environ["PATH_INFO"])
    if found is None:
        return MOTO(environ, start_response)  # type: ignore[no-any-return]
    start_response("200 OK", [("Content-Length", str(len(found)))])
    return [found]


def main() -> None:
    """Serve until killed."""
    port = int(sys.argv[1])
    for function in (list_function_url_configs, get_account_settings, add_permission, get_function):
        setattr(LambdaResponse, function.__name__, function)
    LambdaFunction.get_code = get_code  # type: ignore[method-assign]
    RestAPI.delete_from_cloudformation_json = classmethod(delete_rest_api)  # type: ignore[assignment]
    Role.put_policy = put_role_policy  # type: ignore[method-assign]
    ManagedPolicy.delete = delete_managed_policy  # type: ignore[attr-defined]
    CloudFormationBackend.create_change_set = create_change_set  # type: ignore[assignment,method-assign]
    CloudFormationBackend.execute_change_set = execute_change_set  # type: ignore[method-assign]
    # A change set without a change ends as FAILED; moto refuses to make it.
    CloudFormationResponse._validate_different_update = lambda *_: None  # type: ignore[method-assign]
    os.environ |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_DEFAULT_REGION": "eu-central-1"}
    os.environ |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    urls.url_paths[r"{0}/(?P<version>[^/]+)/functions/(?P<name>[^/]+)/urls/?$"] = LambdaResponse.dispatch
    urls.url_paths[r"{0}/(?P<version>[^/]+)/account-settings/?$"] = LambdaResponse.dispatch
    make_server("127.0.0.1", port, application, threaded=True, request_handler=MotoRequestHandler).serve_forever()


if __name__ == "__main__":
    main()
