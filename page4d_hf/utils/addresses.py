"""Addresses that programs serve browsers at."""

from __future__ import annotations

import errno
import socket

from ..errors import Page4DError

FIRST_PORT, PORTS = 8080, 100  # tried one after the other where no port is named


def check_address(host: str, port: int | None) -> int:
    """The port to listen at: the given one, or the first of some that is free."""
    if port is not None and not 1 <= port <= 65535:
        raise Page4DError(f"Expected a port from 1 to 65535, got {port}.")
    for tried in [port] if port is not None else range(FIRST_PORT, FIRST_PORT + PORTS):
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, tried, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
            return tried
        except (OSError, ValueError) as error:  # ValueError: of a host whose name none can have
            if getattr(error, "errno", None) == errno.EADDRINUSE:
                continue
            reason = getattr(error, "strerror", None) or error
            raise Page4DError(
                f"Cannot listen at {host!s:.200}, port {tried} ({reason}); name an address of this machine "
                "with --host and a port above 1023 with --port."
            ) from error
    taken = f"Port {port} is" if port is not None else f"Ports {FIRST_PORT} to {FIRST_PORT + PORTS - 1} are all"
    raise Page4DError(f"{taken} taken by another program; name a free one with --port.")
