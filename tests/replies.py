"""A reply of the service, of which a test names what it looks at."""

from collections.abc import Sequence
from typing import Any

from lstm_ts.http_schema import ForecastReply, Model, Step


def reply_with(path: Sequence[Step], **fields: Any) -> ForecastReply:
    """Other fields have plain values."""
    sha, until = "0" * 64, "2025-12-01T00:00:00+00:00"
    model = Model(name="XAGUSD", version=3, alias="champion", artifact_sha256=sha, trained_until=until)
    plain = {
        "symbol": "XAGUSD", "currency": None, "decimals": None, "model": model, "arm": "champion", "skill": None,
        "skill_reason": "", "season_day": None, "data_age_s": 60.0, "flags": [], "request_id": "r",
        "path": list(path), "predicted_price": path[-1].price,
    }  # fmt: skip
    return ForecastReply.model_validate(plain | fields)
