"""moto's server with what it lacks and a deployment asks for: python -m tests.support.moto_server PORT

ListFunctionUrlConfigs (`zappa update`), GetAccountSettings (deploy/aws.py), the status 201 of AddPermission, a URL for
each version's code (`zappa rollback` fetches it), and REST APIs that go with their stack (`zappa undeploy`).
AWS_UNRESERVED_CONCURRENCY is what the account may reserve.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote

from moto.apigateway.models import RestAPI, apigateway_backends
from moto.awslambda import urls
from moto.awslambda.models import LambdaFunction
from moto.awslambda.responses import LambdaResponse
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

GET_CODE = LambdaFunction.get_code
GET_FUNCTION = LambdaResponse.get_function


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
    """Let a REST API go with its stack."""
    apigateway_backends[account_id][region_name].delete_rest_api(resource_name)


class Application:
    """moto's application, and the code of every version that was asked for, under /code/."""

    def __init__(self, port: int) -> None:
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.address = f"http://127.0.0.1:{port}"
        self.code: dict[str, bytes] = {}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        found = self.code.get(environ["PATH_INFO"])
        if found is None:
            return self.moto(environ, start_response)  # type: ignore[no-any-return]
        start_response("200 OK", [("Content-Length", str(len(found)))])
        return [found]

    def locate(self, function: LambdaFunction) -> dict[str, Any]:
        """GetFunction's answer with a place on this server; moto's own leads to Amazon."""
        path = f"/code/{hashlib.sha256(function.code_bytes).hexdigest()}"
        self.code[path] = function.code_bytes
        return {**GET_CODE(function), "Code": {"RepositoryType": "S3", "Location": self.address + path}}


def main() -> None:
    """Serve until killed."""
    port = int(sys.argv[1])
    LambdaResponse.list_function_url_configs = list_function_url_configs  # type: ignore[attr-defined]
    LambdaResponse.get_account_settings = get_account_settings  # type: ignore[attr-defined]
    LambdaResponse.add_permission = add_permission  # type: ignore[assignment,method-assign]
    LambdaResponse.get_function = get_function  # type: ignore[method-assign]
    RestAPI.delete_from_cloudformation_json = classmethod(delete_rest_api)  # type: ignore[assignment]
    urls.url_paths[r"{0}/(?P<version>[^/]+)/functions/(?P<name>[^/]+)/urls/?$"] = LambdaResponse.dispatch
    urls.url_paths[r"{0}/(?P<version>[^/]+)/account-settings/?$"] = LambdaResponse.dispatch
    application = Application(port)

    def get_code(self: LambdaFunction) -> dict[str, Any]:
        return application.locate(self)

    LambdaFunction.get_code = get_code  # type: ignore[method-assign]
    make_server("127.0.0.1", port, application, threaded=True, request_handler=MotoRequestHandler).serve_forever()


if __name__ == "__main__":
    main()
