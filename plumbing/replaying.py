"""DeadLettersService: an `operator` lists, replays and drops the facts that a service could not apply."""

from contextlib import suppress
from typing import Any
from uuid import UUID

import msgspec

from kernel.errors import Conflict, NotFound
from kernel.ids import parse_id
from plumbing import callers, pages
from plumbing.audit import AuditEntry
from plumbing.callers import acting_login
from plumbing.deadletters import DeadLetter, Position
from plumbing.hearing import Consumer
from plumbing.permitted import Holds, require
from plumbing.rpc import Server
from plumbing.timestamps import timestamp
from wire.letters.v1 import letters_pb2 as pb
from wire.letters.v1 import letters_pb2_grpc

OPERATOR = "operator"


class DeadLettersApi(letters_pb2_grpc.DeadLettersServiceServicer):
    """Every verb is audited, and so is who may not."""

    def __init__(self, consumer: Consumer[Any], holds: Holds) -> None:
        self._consumer = consumer
        self._letters = consumer.letters
        self._database = consumer.letters.database
        self._holds = holds

    async def ListDeadLetters(  # noqa: N802
        self, request: pb.ListDeadLettersRequest, context: Any
    ) -> pb.ListDeadLettersResponse:
        listed = AuditEntry(acting_login(), "dead_letters.listed", "dead_letters", "done")
        asked = pages.asked(request, Position)
        async with self._database.audited(listed.actor, listed.action, listed.object):
            await require(self._holds, OPERATOR)
        found = await self._letters.list_dead_letters(asked.after, asked.limit)
        async with self._database.statements() as transaction:
            await transaction.audit(listed)
        page, token = asked.rows(found, lambda each: each.position, _letter)
        return pb.ListDeadLettersResponse(letters=page, next_page_token=token)

    async def Replay(self, request: pb.ReplayRequest, context: Any) -> pb.ReplayResponse:  # noqa: N802
        replayed = self._entry("dead_letter.replayed", request.event_id)
        async with self._database.audited(replayed.actor, replayed.action, replayed.object, reason=True):
            letter = await self._dead(request.event_id)
            with callers.acting_for_itself(self._letters.consumer):  # as when the bus brings the fact
                await self._consumer.replay(letter, replayed)
        return pb.ReplayResponse()

    async def Drop(self, request: pb.DropRequest, context: Any) -> pb.DropResponse:  # noqa: N802
        dropped = self._entry("dead_letter.dropped", request.event_id)
        async with self._database.audited(dropped.actor, dropped.action, dropped.object, reason=True):
            await self._letters.drop(await self._dead(request.event_id), dropped)
        return pb.DropResponse()

    def _entry(self, action: str, event_id: str) -> AuditEntry:
        return AuditEntry(acting_login(), action, f"dead_letter:{parse_id(event_id, 'event_id')}", "done")

    async def _dead(self, event_id: str) -> DeadLetter:
        await require(self._holds, OPERATOR)
        letter = await self._letters.find(UUID(event_id))
        if letter is None:
            raise NotFound(f"`{self._letters.consumer}` has no dead letter `{event_id}`")
        if letter.died_at is None:
            raise Conflict("the fact is still being tried: wait until the service gives it up")
        return letter


def serve(server: Server, consumer: Consumer[Any], holds: Holds) -> None:
    """Adds DeadLettersService to a server."""
    server.add(
        letters_pb2_grpc.add_DeadLettersServiceServicer_to_server,
        DeadLettersApi(consumer, holds),
        pb.DESCRIPTOR.services_by_name["DeadLettersService"].full_name,
    )


class _About(msgspec.Struct):
    """Every fact names something by its id."""

    id: UUID


def _letter(letter: DeadLetter) -> pb.DeadLetter:
    about = ""
    with suppress(msgspec.MsgspecError):
        about = str(msgspec.json.decode(letter.payload, type=_About).id)
    return pb.DeadLetter(
        event_id=str(letter.event_id),
        subject=letter.subject,
        about_id=about,
        sentence=letter.sentence,
        failures=letter.failures,
        first_failed_at=timestamp(letter.first_failed_at),
        last_failed_at=timestamp(letter.last_failed_at),
        died_at=timestamp(letter.died_at),
    )
