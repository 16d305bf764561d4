"""Records every call to AWS that a program makes: RECORD_AWS=FILE python -m tests.support.record_aws PROGRAM ARG...

PROGRAM is a Python file, or `zappa`. One JSON line a call: service, operation, HTTP method, parameters.
"""

import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any

import botocore


def record(params: dict[str, Any], model: Any, **_: object) -> None:
    """Append one call, without parameters that are bytes (the code's zip)."""
    call = {
        "service": model.service_model.service_name,
        "operation": model.name,
        "method": model.http.get("method", "POST"),
        "params": {key: value for key, value in params.items() if not isinstance(value, bytes)},
    }
    with Path(os.environ["RECORD_AWS"]).open("a") as log:
        log.write(json.dumps(call, default=str) + "\n")


def main() -> None:
    """Register the recorder with every session of botocore, then run the program."""
    botocore.register_initializer(lambda session: session.register("provide-client-params", record))
    program, *arguments = sys.argv[1:]
    sys.argv = [program, *arguments]
    if program == "zappa":
        runpy.run_module("zappa.cli", run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()
