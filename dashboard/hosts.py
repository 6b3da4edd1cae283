"""Refusal of requests to another host's name, under which a page elsewhere could read a dashboard without a log-in.

A name that its owner lets point to this machine makes a browser take the dashboard for a part of the owner's site.
"""

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from bokeh.server.util import match_host
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.routing import Matcher, Rule
from tornado.web import Application, RequestHandler

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class OtherHost(Matcher):
    """Matcher of requests whose Host is neither an IP address, nor localhost, nor of `origins`."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._names = [origin.lower().partition(":")[0] for origin in origins]

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        try:
            ip_address(request.host_name.strip("[]"))
        except ValueError:
            known = request.host_name in LOOPBACK or any(match_host(request.host_name, name) for name in self._names)
            return None if known else {}
        return None


class Refused(RequestHandler):
    def prepare(self) -> None:
        self.set_status(403)
        self.finish("Expected the address that this dashboard listens at, got another name; add it to origins\n")


class OwnHost(HTTPServer):
    """Server that refuses what `OtherHost` matches."""

    def initialize(self, request_callback: Any, *args: Any, origins: Sequence[str] = (), **kwargs: Any) -> None:
        assert isinstance(request_callback, Application)
        request_callback.default_router.rules.insert(0, Rule(OtherHost(origins), Refused))
        super().initialize(request_callback, *args, **kwargs)
