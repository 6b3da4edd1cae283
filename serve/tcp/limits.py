"""Limits on what one client may send and hold, and on the time it may take."""

from dataclasses import dataclass, fields

from lstm_ts.errors import ConfigError

MAX_S = 3600


@dataclass(frozen=True, kw_only=True)
class Limits:
    """See conf/serve.yaml."""

    url_bytes: int
    header_bytes: int
    headers: int
    header_s: float
    body_s: float
    body_bytes_per_s: float
    idle_s: float
    send_s: float
    connections: int | None
    connections_per_address: int | None
    pending_bytes: int

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.startswith("connections") and value is None:
                continue
            seconds = field.name.endswith("_s")
            kind = (int, float) if seconds else int
            if isinstance(value, bool) or not isinstance(value, kind) or value <= 0:
                what = "a number" if seconds else "a whole number"
                raise ConfigError(f"Expected limits.{field.name} to be {what} above 0, got {value}")
            if field.name in ("header_s", "body_s", "idle_s", "send_s") and value > MAX_S:
                raise ConfigError(f"Expected limits.{field.name} to be at most {MAX_S} s, got {value}")

    def body_deadline_s(self, received_bytes: int) -> float:
        """Seconds after the headers by which the body is due, or more of it than `received_bytes`."""
        return self.body_s + received_bytes / self.body_bytes_per_s
