"""What a page knows of who looks at it."""

from dataclasses import dataclass
from zoneinfo import ZoneInfo

from dashboard.client import Client
from dashboard.settings import DashboardSettings


@dataclass(frozen=True)
class PageContext:
    client: Client
    settings: DashboardSettings
    zone: ZoneInfo  # of the browser
    dark: bool
