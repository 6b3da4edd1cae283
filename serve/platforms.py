"""Routes that hosting platforms require of a container, beside the service's own.

- SageMaker: `GET /ping` and `POST /invocations`, with the body of `/predict`.
- Vertex AI: routes named by `AIP_HEALTH_ROUTE` and `AIP_PREDICT_ROUTE`; `{"instances": [window, …]}` is answered by
  `{"predictions": [forecast, …]}`.
- Azure ML: liveness, readiness and scoring routes are named in its deployment, where `/health` and `/predict` do.
"""

import json
import os
from collections.abc import Sequence

PING, INVOCATIONS = "/ping", "/invocations"
HEALTH_ROUTES = (PING, *filter(None, [os.environ.get("AIP_HEALTH_ROUTE")]))
INSTANCES_ROUTES = tuple(filter(None, [os.environ.get("AIP_PREDICT_ROUTE")]))
COUNTED_AS = dict.fromkeys((INVOCATIONS, *INSTANCES_ROUTES), "/predict")  # so that no alert has to know them


class NoInstances(Exception):
    """Body of another shape, described in a sentence."""


def split_instances(body: bytes) -> list[bytes]:
    """Return the bodies of the requests that `body` holds.    Raises    NoInstances"""
    try:
        instances = json.loads(body)["instances"]
    except (ValueError, TypeError, KeyError, RecursionError):
        instances = None
    if not isinstance(instances, list) or not instances:
        raise NoInstances('Expected {"instances": [{"symbol": …, "bars": […]}, …]}, got another body')
    return [json.dumps(instance).encode() for instance in instances]


def join_predictions(answers: Sequence[bytes]) -> bytes:
    return b'{"predictions":[' + b",".join(answers) + b"]}"
