"""The bus: facts travel over JetStream.

NATS is transport and PostgreSQL the record: whatever the bus loses, the outbox sends again (`outbox.py`).
`Bus` is the connection, which lives as long as the process whatever NATS does. It uses the stream that others
set up (`busowner.py`), and tells what of it is not as it should be. `hearing.py` hears facts.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.js.api import Header, StreamInfo
from prometheus_client import Gauge

from kernel.errors import Unavailable
from kernel.events import HEARS, wire_subject
from plumbing import held, log, remote
from plumbing.permissions import inbox
from plumbing.pull import Pull
from plumbing.renewed import LOOK_S, Text, asked
from plumbing.stream import JSZ, STREAM, consumer, differing, stream
from plumbing.timers import cancelled

_ABSENT = 404

_ANSWER_S = 2.0
"""For NATS to answer a request; a publication is acknowledged after one sync of its disk."""
_RETRY_S = 0.5
_PING_S = 5
"""A frozen NATS is noticed after two pings."""

UP = Gauge("readroom_bus_up", "Alert at 0: whether NATS is connected; facts wait while it is not")
SYNCS_LATE = Gauge(
    "readroom_bus_syncs_late",
    "Alert above 0: NATS acknowledges before it syncs, so a power cut would lose facts; facts wait meanwhile",
)
DIFFERENCES = Gauge(
    "readroom_bus_differences",
    "Alert above 0: settings of the stream, and of our consumer, that are not as `migrate` makes them",
)
_log = log.get()


class _Config(msgspec.Struct):
    sync_always: bool = False


class _Data(msgspec.Struct):
    config: _Config = msgspec.field(default_factory=_Config)


class _Told(msgspec.Struct):
    """What a server tells of its JetStream, as far as it matters here."""

    data: _Data


class _Client(Client):
    """Speaks TLS where the address says so, or not at all.

    NATS greets in plain text. The library would go on in plain text with whoever does not offer TLS in that
    greeting, and somebody on the way can change a greeting.
    """

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and self.options.get("tls") and not info.get("tls_required"):
            raise nats.errors.Error("the server offers no TLS")
        await super()._process_info(info, initial_connection=initial_connection)


class Bus:
    """A connection to NATS that comes up and comes back by itself, whenever NATS does.

    Each call that needs NATS raises Unavailable while it does not answer. `name` is the service: what is said
    over this connection, it says.
    """

    def __init__(self, url: Text, name: str, ca: Path | None = None) -> None:
        self._url = asked(url)
        self._contexts = remote.contexts(url, remote.BUS, ca)
        self._name = name
        self._client: Client = _Client()
        self._up = asyncio.Event()
        self._difficulty = ""
        self._differences: Sequence[str] = ()
        self._connection = 0
        self._sync_seen = False
        self._syncs_late = False
        self._looking = asyncio.Lock()
        self._life = asyncio.create_task(self._live())

    @classmethod
    async def connect(cls, url: Text, name: str, ca: Path | None = None) -> "Bus":
        """Begins to connect, and does not insist: NATS may be away. `ca` is of its certificate."""
        bus = cls(url, name, ca)
        with suppress(TimeoutError):
            async with asyncio.timeout(_ANSWER_S):
                await bus._up.wait()
        return bus

    async def close(self) -> None:
        self._life.cancel()
        with suppress(asyncio.CancelledError):
            await self._life

    async def works(self) -> bool:
        """Whether NATS is connected, and not seen to sync late."""
        return self._up.is_set() and not self._syncs_late

    async def ask(self, request: str, body: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """What JetStream answers to a request such as `STREAM.INFO.FACTS`; None: what it names is absent."""
        async with self._answering() as client:
            data = b"" if body is None else msgspec.json.encode(body)
            message = await client.request(f"$JS.API.{request}", data, timeout=_ANSWER_S)
        answer = msgspec.json.decode(message.data, type=dict[str, Any])
        return None if answer.get("error", {}).get("code") == _ABSENT else answer

    async def stream_created_at(self) -> datetime:
        """When the stream was made. Raises Unavailable while there is none, or NATS syncs too late.

        Looks also whether stream and consumer are as they should be, and tells if not.
        """
        await self._insist_on_sync()
        async with self._looking:
            found = await self.ask(f"STREAM.INFO.{STREAM}")
            if found is None:
                raise Unavailable(f"the bus has no stream `{STREAM}`: run `python -m services migrate`")
            if "config" not in found:  # an error, such as that no server leads the stream now
                raise Unavailable("the bus does not answer")
            differences = [f"`{each}` of the stream" for each in differing(stream(), found["config"])]
            if facts := HEARS.get(self._name):
                own = await self.ask(f"CONSUMER.INFO.{STREAM}.{self._name}") or {"config": {}}
                different = differing(consumer(self._name, facts), own.get("config", {}))
                differences += [f"`{each}` of the consumer" for each in different]
            self._tell(differences)
            created_at = StreamInfo.from_response(found).created
            assert isinstance(created_at, datetime)
            return created_at

    def _tell(self, differences: Sequence[str]) -> None:
        DIFFERENCES.set(len(differences))
        if differences and differences != self._differences:
            _log.error(
                "the bus is not as it should be: run `python -m services migrate`",
                cause=", ".join(differences),
            )
        self._differences = differences

    async def publish(self, subject: str, payload: bytes, event_id: UUID, headers: dict[str, str]) -> None:
        """Says a fact in our name, and waits until the stream has it.

        The stream keeps an event id it has just seen once.
        """
        await self._insist_on_sync()
        async with self._answering() as client:
            await client.jetstream().publish(
                wire_subject(subject, self._name),
                payload,
                timeout=_ANSWER_S,
                stream=STREAM,
                headers={**headers, Header.MSG_ID: str(event_id)},
            )

    @asynccontextmanager
    async def pulling(self, consumer: str) -> AsyncIterator["Pull"]:
        """Pulls for a durable consumer. While it is absent, the first pull raises Unavailable."""
        await self._insist_on_sync()
        async with self._answering() as client:
            subscription = await client.subscribe(client.new_inbox())
            try:
                yield Pull(client, subscription, f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{consumer}")
            finally:
                with suppress(nats.errors.Error):
                    await subscription.unsubscribe()

    @asynccontextmanager
    async def _answering(self) -> AsyncIterator[Client]:
        """The connected client, waited for a moment; its errors become Unavailable."""
        held.refuse_to_wait("NATS")
        try:
            async with asyncio.timeout(_RETRY_S):
                await self._up.wait()
        except TimeoutError as error:
            raise Unavailable("the bus is not connected") from error
        try:
            yield self._client
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise Unavailable("the bus does not answer") from error

    async def _insist_on_sync(self) -> None:
        """Refuses a server that acknowledges before it syncs, because a power cut then loses facts.

        A server changes that only by another start, so each connection asks once. An ordinary account sees
        the server's settings only where the system account exports them to it:
        `exports: [{service: "$SYS.REQ.SERVER.PING.JSZ"}]` there, the import of it in ours.
        """
        if not self._sync_seen:
            async with self._looking:
                if not self._sync_seen:
                    await self._look_at_sync()
        if self._syncs_late:
            raise Unavailable("NATS acknowledges before it syncs: set `sync_interval: always`")

    async def _look_at_sync(self) -> None:
        connection, late = self._connection, False
        async with self._answering() as client:
            try:
                answer = await client.request(JSZ, b"", timeout=_ANSWER_S)
                late = not msgspec.json.decode(answer.data, type=_Told).data.config.sync_always
            except nats.errors.NoRespondersError:
                _log.warning("cannot see whether NATS syncs: it must have `sync_interval: always`")
            except msgspec.MsgspecError as error:
                raise Unavailable("the bus does not say how it syncs") from error
        if connection != self._connection:  # it may be another server by now
            raise Unavailable("the bus is not connected")
        self._sync_seen, self._syncs_late = True, late
        SYNCS_LATE.set(late)
        if late:
            _log.error("NATS acknowledges before it syncs: set `sync_interval: always`")

    async def _live(self) -> None:
        """Keeps a client. A client reconnects by itself, but ends for good when the server refuses it."""
        declared_as_int: dict[str, Any] = {"reconnect_time_wait": _RETRY_S, "connect_timeout": _ANSWER_S}
        while not cancelled():
            closed = asyncio.Event()
            self._client = client = _Client()
            url, context = self._url(), self._contexts()

            async def note_close(closed: asyncio.Event = closed) -> None:
                closed.set()

            try:
                await client.connect(
                    url,
                    tls=context,
                    name=self._name,
                    inbox_prefix=inbox(self._name),
                    max_reconnect_attempts=-1,
                    ping_interval=_PING_S,
                    error_cb=self._note_difficulty,
                    disconnected_cb=self._note_loss,
                    reconnected_cb=self._note_connection,
                    closed_cb=note_close,
                    **declared_as_int,
                )
                await self._note_connection()
                # The client would come back with the password and the authority that it began with.
                while not cancelled() and (url, context) == (self._url(), self._contexts()):
                    with suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_S):
                            await closed.wait()
                            break
            except Exception as error:
                await self._note_difficulty(error)
            finally:
                await self._note_loss()
                with suppress(nats.errors.Error, OSError, TimeoutError):
                    async with asyncio.timeout(_ANSWER_S):
                        await client.close()
            await asyncio.sleep(_RETRY_S)

    async def _note_connection(self) -> None:
        self._difficulty = ""
        self._connection += 1
        self._sync_seen = self._syncs_late = False  # the server may be another, or have other settings
        SYNCS_LATE.set(0)
        self._up.set()
        UP.set(1)

    async def _note_difficulty(self, error: Exception) -> None:
        cause = str(error) or type(error).__name__
        if cause != self._difficulty:  # it is met again with each attempt to connect
            self._difficulty = cause
            _log.warning("NATS cannot be reached", cause=cause)

    async def _note_loss(self) -> None:
        self._up.clear()
        UP.set(0)
