"""FactsService: what this service has said lately, told again; and the client of it.

The outbox keeps a fact for 7 days after its publication, so it is the record of what changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import grpc

from kernel.errors import Invalid
from kernel.events import FACTS, Fact
from kernel.healing import Said
from plumbing import answers, pages
from plumbing.db import Database
from plumbing.rpc import Server
from plumbing.stream import KEPT_S
from plumbing.timestamps import timestamp
from wire.facts.v1 import facts_pb2 as pb
from wire.facts.v1 import facts_pb2_grpc

MAX_SUBJECTS = 16
_KEPT = timedelta(seconds=KEPT_S) - timedelta(minutes=10)  # whoever prunes has another clock


@dataclass(frozen=True, slots=True)
class Position:
    """Where a fact stands in the order of publication."""

    published_at: datetime
    id: int


class FactsApi(facts_pb2_grpc.FactsServiceServicer):
    """Reads the outbox."""

    def __init__(self, database: Database[Any]) -> None:
        self._database = database

    async def ListFacts(  # noqa: N802
        self, request: pb.ListFactsRequest, context: Any
    ) -> pb.ListFactsResponse:
        subjects = list(request.subjects)
        if not 1 <= len(subjects) <= MAX_SUBJECTS:
            raise Invalid(f"`subjects` has {len(subjects)}: expected 1 to {MAX_SUBJECTS}", field="subjects")
        if unknown := [each for each in subjects if each not in FACTS]:
            raise Invalid(
                f"no fact has the subject `{unknown[0][:64]}`: see the facts in kernel.events",
                field="subjects",
            )
        after = pages.after(request.page_token, Position)
        async with self._database.statements() as statements:
            as_of = statements.now
            since = _since(request, as_of)
            if since is None:
                return pb.ListFactsResponse(as_of=timestamp(as_of))
            rows = await statements.connection.fetch(
                """
                select payload ->> 'id' as about, (payload ->> 'version')::bigint as version, published_at, id
                from outbox
                where published_at >= $1 and (published_at, id) > ($1, $2) and subject = any($3)
                order by published_at, id limit $4
                """,
                after.published_at if after else since,
                after.id if after else -1,
                subjects,
                pages.MAX_SIZE + 1,
            )
        page, token = pages.cut(rows, pages.MAX_SIZE, lambda row: Position(row["published_at"], row["id"]))
        return pb.ListFactsResponse(
            facts=[pb.ListFactsResponse.Fact(id=row["about"], version=row["version"]) for row in page],
            next_page_token=token,
            as_of=timestamp(as_of),
            complete=True,
        )


def _since(request: pb.ListFactsRequest, now: datetime) -> datetime | None:
    """None where the outbox cannot know everything since then: it is too long ago, or lies ahead."""
    if not request.HasField("since"):
        return None
    try:
        since = request.since.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise Invalid(
            "`since` is out of range: expected the `as_of` of an earlier answer", field="since"
        ) from error
    return since if now - _KEPT < since <= now else None


def serve(server: Server, database: Database[Any]) -> None:
    """Adds FactsService to a server."""
    server.add(
        facts_pb2_grpc.add_FactsServiceServicer_to_server,
        FactsApi(database),
        pb.DESCRIPTOR.services_by_name["FactsService"].full_name,
    )


class FactsClient:
    """Asks one owner for what it has said."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._facts = facts_pb2_grpc.FactsServiceStub(channel)

    async def said(self, facts: Sequence[type[Fact]], since: datetime | None, token: str) -> Said:
        """A page of these facts since an instant; without one only the time of the owner."""
        answer = await self._facts.ListFacts(
            pb.ListFactsRequest(
                since=timestamp(since), subjects=[each.subject for each in facts], page_token=token
            )
        )
        return Said(
            [(UUID(each.id), each.version) for each in answer.facts],
            answer.next_page_token,
            answers.instant(answer, "as_of"),
            answer.complete,
        )
