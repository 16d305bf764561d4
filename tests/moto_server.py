"""moto's server with what it lacks and a deployment asks for: python -m tests.moto_server PORT

ListFunctionUrlConfigs (`zappa update`), GetAccountSettings (deploy/aws.py), the status 201 of AddPermission, and a URL
for each version's code, which `zappa rollback` fetches. AWS_UNRESERVED_CONCURRENCY is what the account may reserve.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from typing import Any
from urllib.parse import unquote

from moto.awslambda import urls
from moto.awslambda.models import LambdaFunction
from moto.awslambda.responses import LambdaResponse
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import make_server

CODE_BUCKET = "lambda-code"
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
    self.path = self.path.replace("/functions/function:", "/functions/")
    return GET_FUNCTION(self)


def let_code_be_fetched(port: int) -> None:
    """Give each version's code a URL on this server; moto's own leads to Amazon."""
    get_code = LambdaFunction.get_code

    def with_location(self: LambdaFunction) -> dict[str, Any]:
        answer = get_code(self)
        digest = hashlib.sha256(self.code_bytes).hexdigest()
        storage = s3_backends[self.account_id]["aws"]
        if CODE_BUCKET not in storage.buckets:
            storage.create_bucket(CODE_BUCKET, self.region)
        storage.put_object(CODE_BUCKET, digest, self.code_bytes)
        answer["Code"] = {"RepositoryType": "S3", "Location": f"http://127.0.0.1:{port}/{CODE_BUCKET}/{digest}"}
        return answer

    LambdaFunction.get_code = with_location  # type: ignore[method-assign]


def main() -> None:
    """Serve until killed."""
    port = int(sys.argv[1])
    LambdaResponse.list_function_url_configs = list_function_url_configs  # type: ignore[attr-defined]
    LambdaResponse.get_account_settings = get_account_settings  # type: ignore[attr-defined]
    LambdaResponse.add_permission = add_permission  # type: ignore[assignment,method-assign]
    LambdaResponse.get_function = get_function  # type: ignore[method-assign]
    urls.url_paths[r"{0}/(?P<version>[^/]+)/functions/(?P<name>[^/]+)/urls/?$"] = LambdaResponse.dispatch
    urls.url_paths[r"{0}/(?P<version>[^/]+)/account-settings/?$"] = LambdaResponse.dispatch
    let_code_be_fetched(port)
    application = DomainDispatcherApplication(create_backend_app)
    make_server("127.0.0.1", port, application, threaded=True, request_handler=MotoRequestHandler).serve_forever()


if __name__ == "__main__":
    main()
