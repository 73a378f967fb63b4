"""One embedded server: started, stopped and killed singly, always on the same port and data."""

import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from kernel.errors import Unavailable
from local.embedded import binaries
from local.embedded.kept import Kept
from local.processes import Child, ProcessTable, until
from plumbing import permissions
from plumbing.files import write_private

START_LIMIT_S = 30.0
"""How long a server may take until it answers: recovery after a crash replays at most `max_wal_size`."""

STOP_LIMIT_S = 1.5
"""How long a server may take to end when asked to; then it is killed, which loses nothing either."""

_ROOT = Path(__file__).parents[2]

_NATS_SETTINGS = """\
server_name: readroom
listen: "127.0.0.1:{port}"
system_account: SYSTEM
accounts {{
  SYSTEM {{ exports: [{{ service: "$SYS.REQ.SERVER.PING.JSZ" }}] }}
  READROOM {{
    jetstream: enabled
    users: {users}
    # Lets a service see at its start that the server syncs always.
    imports: [{{ service: {{ account: SYSTEM, subject: "$SYS.REQ.SERVER.PING.JSZ" }} }}]
  }}
}}
jetstream {{ store_dir: "{store}", sync_interval: always }}
"""

_VALKEY_SETTINGS = """\
bind 127.0.0.1
port {port}
requirepass {password}
save ""
appendonly no
"""


class EmbeddedServer:
    """One server; start, stop and kill it singly to try what happens without it."""

    stop_signal: int = signal.SIGTERM
    death_signal: int = signal.SIGKILL

    def __init__(self, name: str, folder: Path, processes: ProcessTable, kept: Kept) -> None:
        self.name = name
        self._folder = folder
        self._processes = processes
        self._kept = kept
        self._child: Child | None = None

    @property
    def port(self) -> int:
        return self._kept.port(self.name)

    @property
    def pid(self) -> int:
        """The number of its process. Raises Unavailable while there is none."""
        return self._running().pid

    def start(self) -> None:
        """Starts it and waits until it answers; on the same port and data as before."""
        if self._child and self._child.exit_code is None:
            return
        port = self.port
        child = self._child = self._spawn(port)
        if until(lambda: child.exit_code is not None or self._answers(port), START_LIMIT_S):
            if child.exit_code is None:
                return
            code = child.exit_code
            self._forget()
            raise Unavailable(f"{self.name} ended with {code} at its start: {child.last_words()}")
        self.kill()
        raise Unavailable(f"{self.name} does not answer: see `{child.log}`")

    def stop(self) -> None:
        """Asks it to end, and insists after a while."""
        if self._child:
            self._child.end(self.stop_signal, STOP_LIMIT_S)
            self._forget()

    def kill(self) -> None:
        """Ends it without warning (SIGKILL)."""
        if self._child:
            self._child.end(signal.SIGKILL, STOP_LIMIT_S)
            self._forget()

    def freeze(self) -> None:
        """Stops it and its descendants where they are: connections stay, answers do not come."""
        self._running().signal_family(signal.SIGSTOP)

    def thaw(self) -> None:
        self._running().signal_family(signal.SIGCONT)

    def _running(self) -> Child:
        if self._child is None:
            raise Unavailable(f"{self.name} is not running")
        return self._child

    def _forget(self) -> None:
        if self._child:
            self._processes.forget(self._child)
            self._child = None

    def _spawn(self, port: int) -> Child:
        raise NotImplementedError

    def _answers(self, port: int) -> bool:
        raise NotImplementedError


class Nats(EmbeddedServer):
    """NATS with JetStream that syncs before it acknowledges.

    Each service has a user of its own, and so has who sets the bus up; `readroom` may do everything, and is
    for tests.
    """

    def __init__(self, folder: Path, processes: ProcessTable, kept: Kept, services: Sequence[str]) -> None:
        super().__init__("nats", folder, processes, kept)
        self._users_of = (permissions.SETUP, *services)

    @property
    def password(self) -> str:
        return self._kept.password("nats")

    def url(self, service: str | None = None) -> str:
        """Its address for the user of a service, or for the one who may do everything."""
        user, password = ("readroom", self.password) if service is None else self._user(service)
        return f"nats://{user}:{password}@127.0.0.1:{self.port}"

    @property
    def setup_url(self) -> str:
        """Its address for who makes the stream and the consumers."""
        return self.url(permissions.SETUP)

    def _user(self, service: str) -> tuple[str, str]:
        return service, self._kept.password(f"nats_{service}")

    def _users(self) -> str:
        users: list[dict[str, object]] = [{"user": "readroom", "password": self.password}]
        for name in self._users_of:
            user, password = self._user(name)
            users.append({"user": user, "password": password, "permissions": permissions.of(name)})
        return json.dumps(users)

    def _spawn(self, port: int) -> Child:
        home = binaries.make_folder(self._folder / "nats", 0o700)
        settings = _NATS_SETTINGS.format(port=port, users=self._users(), store=home)
        write_private(home / "nats.conf", settings.encode())
        program = binaries.locate("nats-server", os.environ)
        return self._processes.spawn(
            self.name, [program, "-c", home / "nats.conf"], environment={}, folder=home
        )

    def _answers(self, port: int) -> bool:
        # With the password, so that it is ours and not a stranger's; NATS answers a PING once it serves.
        options = json.dumps({"user": "readroom", "pass": self.password, "verbose": False, "pedantic": False})
        return _says(port, f"CONNECT {options}\r\nPING\r\n".encode(), b"PONG\r\n")


class Valkey(EmbeddedServer):
    """Valkey, which keeps nothing on disk: it holds only what may be lost."""

    def __init__(self, folder: Path, processes: ProcessTable, kept: Kept) -> None:
        super().__init__("valkey", folder, processes, kept)

    @property
    def password(self) -> str:
        return self._kept.password("valkey")

    def _spawn(self, port: int) -> Child:
        home = binaries.make_folder(self._folder / "valkey", 0o700)
        settings = _VALKEY_SETTINGS.format(port=port, password=self.password)
        write_private(home / "valkey.conf", settings.encode())
        program = binaries.locate("valkey-server", os.environ)
        return self._processes.spawn(self.name, [program, home / "valkey.conf"], environment={}, folder=home)

    def _answers(self, port: int) -> bool:
        return _says(port, f"AUTH {self.password}\r\nPING\r\n".encode(), b"+PONG\r\n")


class Sink(EmbeddedServer):
    """The mail server and the text gateway, which keep what they are given in two folders (`sink.py`)."""

    def __init__(self, folder: Path, processes: ProcessTable, kept: Kept) -> None:
        super().__init__("sink", folder, processes, kept)

    @property
    def mail(self) -> Path:
        """Where mails are kept."""
        return self._folder / "mail"

    @property
    def texts(self) -> Path:
        """Where text messages are kept."""
        return self._folder / "texts"

    @property
    def mail_address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def text_url(self) -> str:
        return f"http://127.0.0.1:{self._kept.port('texts')}/texts"

    @property
    def token_file(self) -> Path:
        """What a sender of text messages shows."""
        return self._folder / "text-token"

    def _spawn(self, port: int) -> Child:
        folders = [binaries.make_folder(folder, 0o700) for folder in (self.mail, self.texts)]
        write_private(self.token_file, self._kept.password("texts").encode())
        command = [sys.executable, "-m", "local.embedded.sink", str(port), str(self._kept.port("texts"))]
        command += map(str, [*folders, self.token_file])
        return self._processes.spawn(self.name, command, environment=os.environ, folder=_ROOT)

    def _answers(self, port: int) -> bool:
        return _says(port, b"", b"220 ")


def _says(port: int, question: bytes, answer: bytes) -> bool:
    """Whether who listens on the port gives this answer within a second."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(question)
            heard = b""
            while answer not in heard and len(heard) < 65536:
                if not (more := connection.recv(4096)):
                    return False
                heard += more
            return answer in heard
    except OSError:
        return False
