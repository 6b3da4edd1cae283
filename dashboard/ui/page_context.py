"""Context of a page: client, settings, and the time zone and theme of the visitor."""

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
