"""Where images are received: in processes of their own (worker.py), as this one sees them.

This process accepts each connection, gives it a place, and hands it over before a byte of it is read. A
worker does the rest: TLS, the receive loop, the pack, the statement of each instance. What is asked once an
association or once a study it asks here, over a link (office.py). This process keeps each connection too,
and so it ends one without the help of its worker (SEC-2). A worker that dies ends its associations only: its
packs are sealed where the index says, as after a crash, and another one starts (docs/decisions/0035). One
that stands still gets no connection that another can serve; if it does not come back it is killed, which is
that crash.
"""

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from prometheus_client import Counter, Gauge

from kernel.dicom import UID
from kernel.errors import Unavailable
from kernel.ids import PackId, StudyId
from plumbing import dimse, log
from plumbing.dimse.acceptor import Associations
from plumbing.links import Downward, Question, Told
from plumbing.sockets import is_silent, shut
from plumbing.timers import every
from services.ingest.domain import Admission, Refusal, Refused, Sender, StoredInstance, StoreStatus
from services.ingest.office import Office
from services.ingest.parent import Notes
from services.ingest.parts import Description
from services.ingest.worker import ADMIT_S, ALIVE_S, IDENTIFY_S, INDEX_S, REFUSE_S, SETTLE_S, Configuration

ENFORCED_S = 2.0
"""A connection that its worker did not end after so long is ended here (SEC-2)."""
READY_S = 30.0
"""For a worker to start."""
ENDS_S = 1.0
"""For a worker to end; then it is killed."""
STILL_S = 5.0
"""Without a word of a worker, which says each second that it runs; it stands still then."""
GIVEN_UP_S = 30.0
"""Without a word of a worker, after which it is killed."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 10.0
"""Before another worker starts for one that ended; each time one ends soon, the double."""

WORKERS_LOST = Counter(
    "readroom_ingest_workers_lost",
    "Alert when it grows: processes that received images and ended by themselves",
)
WORKERS_STILL = Gauge(
    "readroom_ingest_workers_still",
    "Alert above 0: processes that receive images and have said nothing for 5 s",
)

_log = log.get()


@dataclass(frozen=True, slots=True)
class Admitted:
    """An association that a worker serves."""

    admission: Admission


class Handed:
    """A connection that a worker serves; this process holds it too, until the worker says that it ended."""

    def __init__(self, connection: socket.socket, remote: tuple[str, int], workers: "Workers") -> None:
        self.connection = connection
        self.remote = f"{remote[0]}:{remote[1]}"
        self.address = remote
        self.handler: Admitted | None = None
        self.worker: _Worker | None = None
        self._workers = workers
        self._began = time.monotonic()
        self._ended = threading.Event()

    @property
    def silent(self) -> bool:
        """Whether not a byte of it has come, and it has had the time."""
        return is_silent(self.connection, self._began)

    def start(self) -> None:
        """Hands it over; raises OSError while there is no worker."""
        try:
            self._workers.hand_over(self)
        except BaseException:
            self._ended.set()
            raise

    def join(self, timeout_s: float) -> None:
        """Waits for its end, at most so long."""
        self._ended.wait(timeout_s)

    def abort(self) -> None:
        """Ends it at once."""
        self._tell("abort")

    def leave(self) -> None:
        """Ends it between two messages."""
        self._tell("leave", enforced=False)

    def give_way(self) -> None:
        """Ends it for a newcomer, without a word."""
        self._tell("give_way")

    def end(self) -> None:
        """It has ended, or its worker has."""
        self.connection.close()
        self._ended.set()

    def _tell(self, what: str, *, enforced: bool = True) -> None:
        if self.worker is not None:
            self.worker.tell(what, self.remote)
        if enforced:
            self._workers.later(ENFORCED_S, self._enforce)

    def _enforce(self) -> None:
        if not self._ended.is_set():
            shut(self.connection)


class Workers(Associations[Handed]):
    """Accepts associations, and hands each to the worker that has the fewest."""

    def __init__(
        self,
        listen: str,
        limits: dimse.Limits,
        *,
        number: int,
        configuration: Configuration,
        office: Office,
    ) -> None:
        super().__init__(listen, limits)
        self._office = office
        self._configuration = configuration
        self._loop = asyncio.get_running_loop()
        self._number = number
        self._serving: list[_Worker] = []
        self._lock = threading.Lock()
        self._looking_after: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Starts the workers and listens once they serve; raises Unavailable where one does not start."""
        first: list[asyncio.Future[None]] = []
        for _ in range(self._number):
            serves: asyncio.Future[None] = self._loop.create_future()
            first.append(serves)
            self._looking_after.append(asyncio.create_task(self._keep_one(serves)))
        try:
            async with asyncio.timeout(READY_S):
                await asyncio.gather(*first)
        except TimeoutError:
            raise Unavailable("the processes that receive images do not start: see the log") from None
        self._looking_after.append(asyncio.create_task(every(ALIVE_S, self._watch)))
        self.start()

    async def ready(self) -> bool:
        """Whether it accepts associations and a worker is there that does not stand still."""
        return await super().ready() and any(not worker.stands_still for worker in list(self._serving))

    async def end(self) -> None:
        """Ends the associations and the workers."""
        await asyncio.to_thread(self.stop)
        for task in self._looking_after:
            task.cancel()
        await asyncio.gather(*self._looking_after, return_exceptions=True)

    def hand_over(self, handed: Handed) -> None:
        """Gives a connection to a worker; raises OSError where there is none."""
        with self._lock:
            for worker in sorted(self._serving, key=lambda each: (each.stands_still, len(each.connections))):
                with suppress(OSError):
                    worker.take(handed)
                    return
        raise ConnectionError("there is no worker to serve it")

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Does something after so many seconds; from any thread."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._loop.call_later, seconds, act)

    def settle(self, handed: Handed, peer: str) -> bool:
        """Gives a connection one of the places of peers."""
        return self._places.settle(handed, peer)

    def left(self, handed: Handed) -> None:
        """A connection has ended."""
        if handed.handler is not None:
            handed.handler = None
            self._office.ended()
        self._places.leave(handed)
        handed.end()

    def _open(self, connection: socket.socket, remote: tuple[str, int]) -> Handed:
        return Handed(connection, remote, self)

    async def _keep_one(self, serves: "asyncio.Future[None]") -> None:
        """Keeps one worker running."""
        pause_s = FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            worker = _Worker(self, self._office, self._configuration)
            try:
                await worker.serve(serves)
            except Exception:
                _log.exception("a process that receives images failed")
            finally:
                with self._lock, suppress(ValueError):
                    self._serving.remove(worker)
                await asyncio.shield(asyncio.to_thread(worker.end))
                worker.settle_what_is_left()
            WORKERS_LOST.inc()
            _log.error("a process that receives images has ended by itself: another one starts")
            if time.monotonic() - began > LONGEST_PAUSE_S:
                pause_s = FIRST_PAUSE_S
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _watch(self) -> None:
        """Looks whether each worker has said something since the last time.

        It counts its own looks and not the time: while this process stands still, nobody is to blame.
        """
        for worker in list(self._serving):
            worker.look()
        WORKERS_STILL.set(sum(worker.stands_still for worker in list(self._serving)))

    def serves(self, worker: "_Worker") -> None:
        """A worker takes connections now."""
        with self._lock:
            self._serving.append(worker)


class _Worker:
    """A worker process, from its start to its end."""

    def __init__(self, workers: Workers, office: Office, configuration: Configuration) -> None:
        self.connections: dict[str, Handed] = {}
        self._workers = workers
        self._office = office
        self._configuration = configuration
        self._packs: dict[PackId, StudyId | None] = {}
        self._serves: asyncio.Future[None] | None = None
        self._gone = False
        self._looks = 0  # since it said something
        ours, theirs = socket.socketpair()
        self._passing, passed = socket.socketpair()
        self._passing.setblocking(False)  # a worker that stands still does not keep the thread that accepts
        with theirs, passed:
            numbers = theirs.fileno(), passed.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "services.ingest.worker", *map(str, numbers)],
                stdin=subprocess.DEVNULL,
                pass_fds=numbers,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(each or str(Path.cwd()) for each in sys.path),
                },
            )
        self._link = Downward(ours, self._questions())

    async def serve(self, serves: "asyncio.Future[None]") -> None:
        """Answers the worker until it has ended; `serves` is done once it takes connections."""
        self._serves = serves
        await self._link.serve("configure", self._configuration)

    @property
    def stands_still(self) -> bool:
        """Whether it has said nothing for too long."""
        return self._looks * ALIVE_S > STILL_S

    def look(self) -> None:
        """Counts a look at it; kills it after too many without a word."""
        still, self._looks = self.stands_still, self._looks + 1
        if self.stands_still and not still:
            _log.error("a process that receives images stands still", pid=self._process.pid)
        if self._looks * ALIVE_S > GIVEN_UP_S:
            self._process.kill()

    def take(self, handed: Handed) -> None:
        """Hands a connection over, in the thread that accepts; raises OSError."""
        handed.worker = self
        self.connections[handed.remote] = handed
        try:
            host, port = handed.address
            socket.send_fds(self._passing, [f"{port} {host}".encode()], [handed.connection.fileno()])
        except OSError:
            self.connections.pop(handed.remote, None)
            raise

    def tell(self, what: str, remote: str) -> None:
        """Tells the worker to do something with a connection."""
        self._link.tell(what, remote)

    def end(self) -> None:
        """Ends the process, and waits until it is gone: nobody writes its packs any more."""
        self._passing.close()
        try:
            self._process.wait(ENDS_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def settle_what_is_left(self) -> None:
        """The process is gone: its associations have ended, and its packs are sealed where the index says."""
        self._gone = True
        for handed in list(self.connections.values()):
            self._left(handed.remote)
        for pack_id in list(self._packs):
            self._release(pack_id, self._packs[pack_id])

    def _questions(self) -> Mapping[str, Question | Told]:
        office = self._office
        return {
            "ready": Told(tuple[()], self._ready),
            "alive": Told(tuple[()], self._alive),
            "recognize": Question(tuple[str], office.recognize, ADMIT_S),
            "settle": Question(tuple[str, str], self._settle, SETTLE_S),
            "admit": Question(tuple[str, str, str | None, str, list[str]], self._admit, ADMIT_S),
            "open_study": Question(tuple[Sender, str], self._open_study, IDENTIFY_S),
            "open_pack": Question(tuple[()], self._open_pack, IDENTIFY_S),
            "receive": Question(
                tuple[StudyId, Sender, StoredInstance, Description, bool], office.receive, INDEX_S
            ),
            "keep_unfiled": Question(tuple[Sender, StoredInstance, str], office.keep_unfiled, INDEX_S),
            "refuse": Question(tuple[Refusal], office.refuse, REFUSE_S),
            "release": Told(tuple[PackId, StudyId | None], self._release),
            "note": Told(tuple[Notes], office.note),
            "left": Told(tuple[str], self._left),
        }

    def _ready(self) -> None:
        self._workers.serves(self)
        if self._serves is not None and not self._serves.done():
            self._serves.set_result(None)

    def _alive(self) -> None:
        self._looks = 0

    async def _settle(self, remote: str, peer: str) -> bool:
        handed = self.connections.get(remote)
        return handed is not None and self._workers.settle(handed, peer)

    async def _admit(
        self, certificate: str, title: str, transfer_id: str | None, remote: str, classes: Sequence[str]
    ) -> Sender:
        sender = await self._office.admit(certificate, title, transfer_id, remote, classes)
        handed = self.connections.get(remote)
        if handed is None or self._gone:
            self._office.ended()
            raise Unavailable("the connection has ended")
        handed.handler = Admitted(sender.admission)
        return sender

    async def _open_study(self, sender: Sender, uid: str) -> StoreStatus | tuple[Sender, StudyId, PackId]:
        try:
            of_study, study_id, pack_id = await self._office.open_study(sender, UID(uid))
        except Refused as refused:
            return refused.status
        self._keep(pack_id, study_id)
        return of_study, study_id, pack_id

    async def _open_pack(self) -> PackId:
        pack_id = await self._office.open_pack()
        self._keep(pack_id, None)
        return pack_id

    def _keep(self, pack_id: PackId, study_id: StudyId | None) -> None:
        if self._gone:
            self._office.release(pack_id, study_id)
        else:
            self._packs[pack_id] = study_id

    def _release(self, pack_id: PackId, study_id: StudyId | None) -> None:
        # Only what this worker has open: nothing it says seals the pack of another.
        if pack_id in self._packs:
            del self._packs[pack_id]
            self._office.release(pack_id, study_id)

    def _left(self, remote: str) -> None:
        handed = self.connections.pop(remote, None)
        if handed is not None:
            self._workers.left(handed)


class OpenAssociations:
    """The open associations of this process and of its workers."""

    def __init__(self, listening: "Associations[Any]") -> None:
        self._listening = listening

    def admissions(self) -> Collection[Admission]:
        return {_admission(handler) for handler in self._listening.handlers()}

    def abort(self, ended: Collection[Admission]) -> None:
        """Ends every association that was admitted by one of these."""
        self._listening.abort(lambda handler: _admission(handler) in ended)


def _admission(handler: object) -> Admission:
    return cast("Admitted", handler).admission
