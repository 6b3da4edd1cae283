"""Routes that hosting platforms require of a container, beside the service's own.

- SageMaker: `GET /ping` and `POST /invocations`, with the body of `/predict`.
- Vertex AI: routes named by `AIP_HEALTH_ROUTE` and `AIP_PREDICT_ROUTE`; `{"instances": [window, …]}` is answered by
  `{"predictions": [forecast, …]}`.
- Azure ML: liveness, readiness and scoring routes are named in its deployment, where `/health` and `/predict` do.
"""

import json
import os
from collections.abc import Sequence

import jiter

from lstm_ts.http_schema import Problem, Problems
from serve.window import InvalidWindow

PING, INVOCATIONS = "/ping", "/invocations"
HEALTH_ROUTES = (PING, *filter(None, [os.environ.get("AIP_HEALTH_ROUTE")]))
INSTANCES_ROUTES = tuple(filter(None, [os.environ.get("AIP_PREDICT_ROUTE")]))
COUNTED_AS = dict.fromkeys((INVOCATIONS, *INSTANCES_ROUTES), "/predict")  # so that no alert has to know them


def split_instances(body: bytes) -> list[bytes]:
    """Return the bodies of the requests that `body` holds.    Raises    InvalidWindow"""
    expected = 'Expected {"instances": [{"symbol": …, "bars": […]}, …]}, got'
    try:
        content = jiter.from_json(body, catch_duplicate_keys=True)
    except ValueError as error:
        raise InvalidWindow([Problem(path="instances", problem=f"{expected} no JSON: {error}")]) from None
    instances = content.get("instances") if isinstance(content, dict) else None
    if not isinstance(instances, list) or not instances:
        raise InvalidWindow([Problem(path="instances", problem=f"{expected} another body")])
    return [json.dumps(instance).encode() for instance in instances]


def problems_of_instance(number: int, refusal: bytes) -> list[Problem]:
    """Return the problems that `refusal`, the reply to one instance, lists, with the instance in their paths."""
    place = f"instances[{number}]"
    problems = Problems.model_validate_json(refusal).problems
    paths = (place if each.path == "body" else f"{place}.{each.path}" for each in problems)
    return [each.model_copy(update={"path": path}) for each, path in zip(problems, paths, strict=True)]


def join_predictions(answers: Sequence[bytes]) -> bytes:
    return b'{"predictions":[' + b",".join(answers) + b"]}"
