"""Child processes of one data directory, none of which outlives its parent unnoticed.

Three lines of defence: a child gets a signal when its parent dies (`launch.py`); `processes.json` records
process numbers with their start times, so that the next start ends exactly what this one left over and
never a stranger to whom the number was given since; a lock keeps a second parent out of the directory.
"""

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock

from kernel.errors import Conflict, Unavailable
from plumbing.files import write_private

LEFTOVER_GRACE_S = 5.0
"""How long what an earlier start left over may take to end after its signal."""

POLL_S = 0.01
"""How often a condition of another process is looked at; starting one takes 100 ms and more."""

# The death signal is sent when the *thread* that started a child ends; this one lives as long as the process.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")


@dataclass(frozen=True, slots=True)
class Account:
    """The user a child runs as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Identity:
    """Which process, for good: numbers are given again, but not with the same start time in the same boot."""

    pid: int
    started: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> "Identity | None":
        """The identity of the process that has this number now; None if there is none, or only a zombie."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return None
        fields = stat[stat.rindex(")") + 2 :].split()  # the name before may hold spaces and brackets
        if fields[0] in "ZX":
            return None
        return cls(pid, int(fields[19]), Path("/proc/sys/kernel/random/boot_id").read_text().strip())

    def lives(self) -> bool:
        return Identity.of(self.pid) == self

    def signal(self, signal_number: int) -> None:
        """Signals this process and no other, even if its number is given to another meanwhile."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if self.lives():
                signal.pidfd_send_signal(descriptor, signal_number)
        except ProcessLookupError:
            pass
        finally:
            os.close(descriptor)


def until(condition: Callable[[], bool], within_s: float) -> bool:
    """Waits for a condition; False if it did not come true in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


class Child:
    """One running child of ours and the file its output goes to."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path, death_signal: int) -> None:
        self.name = name
        self.pid = process.pid
        self.log = log
        self.death_signal = death_signal
        self._process = process
        self._log_begin = log.stat().st_size
        identity = Identity.of(process.pid)
        self.record = asdict(identity) | {"death_signal": death_signal} if identity else None

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for the signal that ended it."""
        return self._process.poll()

    def signal(self, signal_number: int) -> None:
        self._process.send_signal(signal_number)

    def signal_family(self, signal_number: int) -> None:
        """Signals the child and its descendants, ancestors first: a stopped one starts no more of them."""
        for pid in (self.pid, *_descendants(self.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal_number)

    def end(self, signal_number: int, within_s: float) -> None:
        """Asks it to end, then insists."""
        self.signal(signal_number)
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def wait(self, within_s: float) -> bool:
        return until(lambda: self.exit_code is not None, within_s)

    def last_words(self) -> str:
        """The last line it wrote."""
        with self.log.open("rb") as file:
            file.seek(max(self._log_begin, self.log.stat().st_size - 8192))
            lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip() if lines else "it said nothing"


def _descendants(pid: int) -> Iterator[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return
    for child in map(int, children):
        yield child
        yield from _descendants(child)


class ProcessTable:
    """The children that belong to one data directory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "processes.json"
        self._children: dict[str, Child] = {}
        self._lock: int | None = None
        self._abandoned = False
        self._writing = Lock()  # servers start and stop in parallel

    def open(self) -> None:
        """Takes the directory for this process and ends what an earlier start left over.

        Raises Conflict while another process has the directory, Unavailable if a leftover does not end.
        """
        lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 20).decode().strip()
            os.close(lock)
            raise Conflict(f"`{self._folder}` is in use: stop process {holder} first") from None
        os.truncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock
        self._abandoned = False
        try:
            self._end_leftovers()
        except BaseException:
            self.close()
            raise

    @property
    def is_open(self) -> bool:
        return self._lock is not None

    def close(self) -> None:
        """Gives the directory back; ends whatever child is left, which is none after an orderly stop."""
        _spawner.submit(self._close).result()  # after every start under way

    def abandon(self) -> None:
        """Tells every child to end at once, as if this process died, and starts no more of them."""
        _spawner.submit(self._abandon).result()

    def _abandon(self) -> None:
        self._abandoned = True
        for child in list(self._children.values()):
            child.signal(child.death_signal)

    def _close(self) -> None:
        for child in list(self._children.values()):
            child.end(signal.SIGKILL, LEFTOVER_GRACE_S)
            self.forget(child)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def spawn(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str],
        folder: Path,
        account: Account | None = None,
        death_signal: int = signal.SIGKILL,
    ) -> Child:
        """Starts a command in a process group of its own, its output appended to `logs/NAME.log`."""
        return _spawner.submit(
            self._spawn, name, command, environment, folder, account, death_signal
        ).result()

    def _spawn(
        self,
        name: str,
        command: Sequence[str | Path],
        environment: Mapping[str, str],
        folder: Path,
        account: Account | None,
        death_signal: int,
    ) -> Child:
        if self._abandoned or not self.is_open:
            raise Unavailable(f"{name} does not start any more: everything ends")
        logs = self._folder / "logs"
        logs.mkdir(mode=0o700, exist_ok=True)
        path = logs / f"{name}.log"
        user = (account.uid, account.gid) if account else (-1, -1)
        launcher = [sys.executable, "-I", "-S", str(Path(__file__).with_name("launch.py"))]
        words = [str(word) for word in (int(death_signal), os.getpid(), *user, *command)]
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            process = subprocess.Popen(
                launcher + words,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                cwd=folder,
                env=dict(environment),
                process_group=0,  # Ctrl-C in a terminal reaches the parent only, which ends them in order
            )
        finally:
            os.close(descriptor)
        child = self._children[name] = Child(name, process, path, int(death_signal))
        self._write()
        return child

    def forget(self, child: Child) -> None:
        """The child has ended and was meant to."""
        if self._children.get(child.name) is child:
            del self._children[child.name]
            self._write()

    def wait_for_an_end(self, within_s: float | None = None) -> Child | None:
        """Waits until a child ends that nobody forgot; None if none did in time."""
        if ended := self._ended():
            return ended
        watched = [os.pidfd_open(child.pid) for child in self._children.values()]
        try:
            select.select(watched, [], [], within_s)
        finally:
            for descriptor in watched:
                os.close(descriptor)
        return self._ended()

    def _ended(self) -> Child | None:
        return next((child for child in self._children.values() if child.exit_code is not None), None)

    def _write(self) -> None:
        with self._writing:
            records = {name: child.record for name, child in self._children.copy().items() if child.record}
            write_private(self._path, json.dumps(records, indent=1).encode())

    def _end_leftovers(self) -> None:
        try:
            records = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return
        except ValueError as failure:
            raise Unavailable(
                f"`{self._path}` is damaged: {failure}; end the processes it names and delete it"
            ) from None
        leftovers = {
            name: (Identity(record["pid"], record["started"], record["boot"]), record["death_signal"])
            for name, record in records.items()
        }
        for identity, death_signal in leftovers.values():
            identity.signal(death_signal)
            identity.signal(signal.SIGCONT)  # a stopped process cannot end
        for name, (identity, _) in leftovers.items():
            if not until(lambda identity=identity: not identity.lives(), LEFTOVER_GRACE_S):  # type: ignore[misc]
                raise Unavailable(
                    f"{name} of an earlier start does not end: end process {identity.pid} by hand"
                )
        self._path.unlink()
