"""The random choices that a data directory keeps: ports and passwords, in one file of mode 0600."""

import contextlib
import json
import random
import secrets
import socket
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from threading import RLock

from kernel.errors import Unavailable
from local.processes import until
from plumbing.files import write_private

_ENDING_LIMIT_S = 2.0
"""How long a server that was killed may take to give its port back."""


class Kept:
    """What was chosen under each name, at the first start or now.

    A port stays reserved while this process lives, also while its server is down: bound without listening,
    it is given to nobody else, and the server, which binds with SO_REUSEADDR, may still have it.

    Args:
        planned: the ports to choose, by name; where there is none, any free one is chosen.
    """

    def __init__(self, path: Path, planned: Mapping[str, int] | None = None) -> None:
        self._path = path
        self._planned = planned or {}
        self._reserved: dict[str, socket.socket] = {}
        self._lock = RLock()  # servers start in parallel

    @cached_property
    def _values(self) -> dict[str, str | int]:
        try:
            values: dict[str, str | int] = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError as failure:
            raise Unavailable(f"`{self._path}` is damaged: {failure}") from None
        return values

    def text(self, name: str, choose: Callable[[], str]) -> str:
        """Any text."""
        with self._lock:
            if name not in self._values:
                self._keep(name, choose())
            return str(self._values[name])

    def password(self, name: str) -> str:
        return self.text(f"{name}_password", lambda: secrets.token_urlsafe(24))

    def port(self, name: str) -> int:
        """A loopback port. Raises Unavailable if another program has taken it since the last start."""
        key = f"{name}_port"
        with self._lock:
            if name not in self._reserved:
                if key in self._values:
                    self._reserve(name, int(self._values[key]))
                elif name in self._planned:
                    self._reserve_planned(name, self._planned[name])
                    self._keep(key, self._planned[name])
                else:
                    self._keep(key, self._reserve_any(name))
            return int(self._values[key])

    def release(self) -> None:
        for reservation in self._reserved.values():
            reservation.close()
        self._reserved.clear()

    def _keep(self, key: str, value: str | int) -> None:
        self._values[key] = value
        write_private(self._path, json.dumps(self._values, indent=1).encode())

    def _reserve(self, name: str, port: int) -> None:
        reservation = _reserved(port, _ENDING_LIMIT_S)
        if reservation is None:
            raise Unavailable(
                f"port {port} of {name} is taken by another program: "
                f"end it, or delete `{name}_port` from `{self._path}`"
            )
        self._reserved[name] = reservation

    def _reserve_planned(self, name: str, port: int) -> None:
        reservation = _reserved(port)
        if reservation is None:
            raise Unavailable(
                f"port {port} of {name} is taken by another program, perhaps another Readroom: end it, or "
                "start on other ports with `make up PORTS=any`"
            )
        self._reserved[name] = reservation

    def _reserve_any(self, name: str) -> int:
        self._reserved[name] = reservation = reserve_any()
        port: int = reservation.getsockname()[1]
        return port


def reserve_any() -> socket.socket:
    """A loopback port that nobody else is given while the socket is open; Unavailable if there is none.

    It is below the range of outgoing connections: a client that keeps calling a server that is down would
    otherwise, one time in thousands, be given the server's port and connect to itself.
    """
    outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in random.SystemRandom().sample(range(10_000, max(outgoing, 20_000)), 100):
        with socket.socket() as probe:  # without SO_REUSEADDR: another's reservation counts too
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if reservation := _reserved(port):  # or somebody was quicker
            return reservation
    raise Unavailable("there is no free port on the loopback address")


def _reserved(port: int, within_s: float = 0.0) -> socket.socket | None:
    """A socket that is bound to the port; None if another program has it and keeps it."""
    reservation = socket.socket()
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    def bound() -> bool:
        with contextlib.suppress(OSError):
            reservation.bind(("127.0.0.1", port))
            return True
        return False

    if until(bound, within_s):
        return reservation
    reservation.close()
    return None
