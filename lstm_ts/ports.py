"""TCP addresses that this machine's servers listen at."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from lstm_ts.errors import ConfigError


def show_address(host: str, port: int) -> str:
    """Return host and port as in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_port(host: str, port: int, *, takes_ipv4: bool = False) -> None:
    """Raises    ConfigError: another process has it, or there is none of that number, or no such host here

    takes_ipv4   on :: the server takes IPv4 too, as uvicorn's own socket does; asyncio's and tornado's do not
    """
    if not isinstance(port, int) or not 0 < port < 65536:
        raise ConfigError(f"Expected port to be a whole number within 1..65535, got {port}")
    try:
        if ":" in host:
            both = takes_ipv4 and socket.has_dualstack_ipv6()
            socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=both).close()
        else:
            socket.create_server((host, port)).close()
    except OSError as error:
        if (error.errno or 0) < 0 or error.errno == errno.EADDRNOTAVAIL:  # negative: of names
            raise ConfigError(
                f"Expected host to be an address of this machine, got {host}; set host=127.0.0.1, or leave it out"
            ) from None
        raise _taken(show_address(host, port), error) from None


@contextmanager
def taking_port(address: str) -> Iterator[None]:
    """Raises    ConfigError: another process has taken the port since `check_port`"""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise _taken(address, error) from None


def _taken(address: str, error: OSError) -> ConfigError:
    why = os.strerror(error.errno or 0)
    return ConfigError(f"Expected a free port, got {address}: {why}; is it running already? If not, set port=…")
