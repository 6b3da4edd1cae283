"""`python -m dashboard.server`: the pages on one address; see conf/dashboard.yaml."""

import logging
import re
import secrets
import signal
import sys
import traceback
from argparse import ArgumentParser
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lstm_ts.cli import check_arguments, compose, entry_point
from lstm_ts.configuration.parts import (
    check_registry,
    construct,
    read_symbols,
    to_json,
    typed_paths,
)

if __name__ == "__main__":
    check_arguments("dashboard")  # before what is slow to import

import panel as pn
from omegaconf import DictConfig, OmegaConf
from panel.auth import AUTH_PROVIDERS
from panel.pane import HTML
from panel.template import Template
from tornado.httpserver import HTTPServer
from tornado.websocket import WebSocketClosedError

from dashboard.client import Client
from dashboard.headers import RareLines, Secured, SiteCookies
from dashboard.hosts import LOOPBACK, OwnHost
from dashboard.login import PasswordProvider
from dashboard.settings import DashboardSettings, Service, UploadLimits
from dashboard.shell import import_later, shell
from dashboard.ui.blocks import problem
from lstm_ts.configuration.overrides import to_overrides
from lstm_ts.errors import ConfigError, LstmTsError
from lstm_ts.lifetime import exit_at_signals
from lstm_ts.ports import check_port, show_address, taking_port
from lstm_ts.sources.bounded_http import check_url

EXTENSIONS = ("tabulator", "filedropper")
UPLOADS = "lstm_ts_uploads_"
LOGIN_BYTES = 1 << 16  # of a request's body; uploads come over the websocket
ORIGIN = re.compile(r"[^\s/:]+(:\d{1,5})?")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")

log = logging.getLogger(__name__)


def read_settings(cfg: DictConfig, uploads: Path) -> DashboardSettings:
    return DashboardSettings(
        symbol=cfg.symbol.name,
        name=cfg.name,
        data=Path(cfg.paths.data),
        outputs=Path(cfg.paths.outputs),
        typed_paths=typed_paths(cfg.paths),
        registry_uri=cfg.registry.uri,
        ledger_url=cfg.registry.ledger,
        symbols=read_symbols(cfg),
        min_minutes_share=cfg.min_minutes_share,
        max_mismatch=cfg.max_mismatch,
        poll_s=cfg.poll_s,
        service=Service(**(to_json(cfg.service) | {"key": (cfg.service.key or "").strip()})),
        upload=UploadLimits(**to_json(cfg.upload)),
        uploads=uploads,
        live_skill=construct(cfg.live_skill),
        verdict=construct(cfg.verdict),
        operator_password=_without_newline(cfg.operator_password),
    )


def _without_newline(secret: str | None) -> str:
    """Return a secret without the end of its line, which nobody can type."""
    return (secret or "").rstrip("\r\n")


def auth_of(cfg: DictConfig) -> dict[str, Any]:
    """Return Panel's options for logging in.    Raises    ConfigError: reachable from elsewhere, open to everyone"""
    auth, oauth = cfg.auth, cfg.auth.oauth
    if not auth.basic and not oauth.provider:
        if cfg.host not in LOOPBACK:
            raise ConfigError(
                f"Expected auth.basic or auth.oauth.provider with host={cfg.host}, which others can reach, "
                f"got neither; set LSTM_TS_DASHBOARD_PASSWORD, or host=127.0.0.1"
            )
        return {}
    known: dict[str, Any] = {"cookie_secret": auth.cookie_secret or secrets.token_hex(32)}
    if auth.basic:
        return known | {"auth_provider": PasswordProvider(_without_newline(auth.basic))}
    if handler := AUTH_PROVIDERS.get(oauth.provider):  # else Panel refuses it
        secured: Any = type(handler.__name__, (SiteCookies, handler), {})
        AUTH_PROVIDERS[oauth.provider] = secured
    named = {"provider": oauth.provider, "key": oauth.key, "secret": oauth.secret, "redirect_uri": oauth.redirect_uri}
    return known | {f"oauth_{name}": value for name, value in named.items() if value}


def check_oauth(cfg: DictConfig) -> None:
    """Raises    ConfigError: an unknown provider, or one without this dashboard's key and secret"""
    oauth = cfg.auth.oauth
    if cfg.auth.basic or not oauth.provider:
        return
    if oauth.provider not in AUTH_PROVIDERS:
        known_ones = ", ".join(sorted(AUTH_PROVIDERS.keys() - {"basic"}))
        raise ConfigError(f"Expected auth.oauth.provider as one of {known_ones}, got {oauth.provider}; choose one")
    if not (oauth.key and oauth.secret):
        raise ConfigError(
            f"Expected auth.oauth.key and auth.oauth.secret for {oauth.provider}, as it has given them for this "
            f"dashboard, got none; set LSTM_TS_OAUTH_KEY and LSTM_TS_OAUTH_SECRET"
        )


def is_real_error(record: logging.LogRecord) -> bool:
    """Filter out the tracebacks that are logged when a visitor leaves before a page is sent completely.

    If a visitor leaves before the session begins, or with changes on their way, Bokeh fails an assertion.
    """
    _, error, trace = record.exc_info or (None, None, None)
    *_, last = None, *traceback.extract_tb(trace)
    has_left = isinstance(error, AssertionError) and last and last.filename.endswith("bokeh/server/connection.py")
    return not (isinstance(error, WebSocketClosedError) or has_left)


def set_up_panel(threads: int) -> None:
    for name in ("asyncio", "bokeh.server.protocol_handler", "tornado.application"):
        logging.getLogger(name).addFilter(is_real_error)
    busy = pn.state.param.busy
    busy.readonly = busy.constant = False  # Panel switches these in several threads at once, which fails
    pn.extension(*EXTENSIONS, nthreads=threads)


def limit_lines() -> None:
    """Keep what any client makes the libraries log within bounds."""
    logging.getLogger("bokeh").propagate = True  # its own handler went when the log was set up
    for handler in logging.getLogger().handlers:
        handler.addFilter(RareLines())


def check(cfg: DictConfig) -> None:
    check_registry(cfg)
    check_url(cfg.service.url, "service.url such as http://127.0.0.1:8000 (LSTM_TS_SERVICE may give it)")
    if CONTROL.search((cfg.service.key or "").strip()):
        raise ConfigError(
            "Expected service.key as one line, got control characters in it; correct it, or LSTM_TS_API_KEY"
        )
    for origin in cfg.origins:
        if not ORIGIN.fullmatch(str(origin)):
            raise ConfigError(
                f"Expected origins as a list of host:port, such as [silver.example.com:443], got {origin}; "
                f"leave out https:// and what follows the port"
            )
    for name in ("threads", "poll_s", "service.timeout_s", *(f"upload.{limit}" for limit in cfg.upload)):
        if (value := OmegaConf.select(cfg, name)) <= 0:
            raise ConfigError(f"Expected {name} above 0, got {value}")


def under_panel_serve() -> Template | HTML:
    """Make the page for `panel serve dashboard/app.py`, whose own options set address and log-in."""
    try:
        client, settings, _ = _shared()
    except LstmTsError as error:
        return problem(str(error))
    return shell(client, settings)


@cache
def _shared() -> tuple[Client, DashboardSettings, "TemporaryDirectory[str]"]:
    """Make what all visitors share.    Raises    ConfigError: reachable from elsewhere, open to everyone"""
    options = ArgumentParser(add_help=False)
    options.add_argument("--address", default="0.0.0.0")
    options.add_argument("--basic-auth", default="")
    options.add_argument("--oauth-provider", default="")
    given = options.parse_known_args(sys.orig_argv)[0]  # sys.argv is the app's own
    auth = {"basic": given.basic_auth, "oauth": {"provider": given.oauth_provider}}
    cfg = compose("dashboard", to_overrides({"host": given.address, "auth": auth}))
    check(cfg)
    auth_of(cfg)
    set_up_panel(cfg.threads)
    uploads = TemporaryDirectory(prefix=UPLOADS)
    settings = read_settings(cfg, Path(uploads.name))
    return Client(settings), settings, uploads


@entry_point("dashboard")
def main(cfg: DictConfig) -> None:
    check(cfg)
    check_oauth(cfg)
    auth = auth_of(cfg)
    check_port(cfg.host, cfg.port)
    set_up_panel(cfg.threads)
    limit_lines()
    with exit_at_signals(), TemporaryDirectory(prefix=UPLOADS) as uploads:
        settings = read_settings(cfg, Path(uploads))
        client = Client(settings)
        address = show_address(cfg.host, cfg.port)
        log.info("The dashboard is on http://%s", address)
        import_later()
        signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # at which Panel ends its loop
        if not auth:
            HTTPServer.configure(OwnHost, origins=[str(origin) for origin in cfg.origins])
        with taking_port(address):
            pn.serve(
                {"/": lambda: shell(client, settings)},
                address=cfg.host,
                port=cfg.port,
                websocket_origin=list(cfg.origins) or None,
                show=False,
                verbose=False,
                liveness="health",
                http_server_kwargs={"max_body_size": LOGIN_BYTES, "xheaders": cfg.behind_proxy},
                transforms=[Secured],
                **auth,
            )


if __name__ == "__main__":
    main()
