"""WatchCases: proto to domain and back, with the cursors of what was told."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from plumbing.callers import acting_login, acting_session
from services.access import answers, asked
from services.access.cursors import CursorTokens
from services.access.livelists import Watched
from services.access.revision import RevisionTokens
from services.access.search import Order
from services.access.watching import Watching
from wire.access.v1 import access_pb2 as pb

DEFAULT_ROWS = 50
ORDERS: dict[int, Order] = {value: order for order, value in answers.ORDER_VALUES.items()}

Told = AsyncGenerator[pb.WatchCasesResponse]


class Telling:
    """Serves lists that tell what changes."""

    def __init__(self, watching: Watching, cursors: CursorTokens, revisions: RevisionTokens) -> None:
        self._watching = watching
        self._cursors = cursors
        self._revisions = revisions

    async def watch_cases(self, request: pb.WatchCasesRequest) -> Told:
        rows = request.rows or DEFAULT_ROWS
        watched = Watched(acting_login(), acting_session(), asked.listing(request, ORDERS), rows)
        told = self._watching.watch_cases(
            watched,
            self._cursors.told(request.cursor, watched),
            answers.a_message,
            at_least=self._revisions.at_least(request.at_least_revision),
        )
        async with aclosing(told):
            async for event in told:
                yield answers.an_event(event, self._cursors.token(event.now, watched))
