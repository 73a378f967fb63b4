"""AccessService: single cases, those beside them, and lists as files; proto to domain and back."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from plumbing import pages
from plumbing.callers import acting_login, acting_session
from services.access import answers, asked
from services.access.casecsv import csv_columns
from services.access.exporting import Exports
from services.access.places import PlaceTokens
from services.access.revision import RevisionTokens
from services.access.search import Order, Place, Related
from services.access.shown import columns_of
from services.access.usecases import Questions
from wire.access.v1 import access_pb2 as pb

DEFAULT_PAGE_SIZE = 50
MAX_PART_BYTES = 1 << 18
"""Of a file, in one message."""

ORDERS: dict[int, Order] = {value: order for order, value in answers.ORDER_VALUES.items()}

Parts = AsyncGenerator[pb.ExportCasesResponse]


class ListedCases:
    """Serves what is asked of cases beside the pages of a worklist."""

    def __init__(
        self, questions: Questions, exports: Exports, places: PlaceTokens, revisions: RevisionTokens
    ) -> None:
        self._questions = questions
        self._exports = exports
        self._places = places
        self._revisions = revisions

    async def describe_case(self, request: pb.DescribeCaseRequest) -> pb.DescribeCaseResponse:
        columns = columns_of(request.columns)
        described = await self._questions.describe_case(
            acting_login(),
            asked.case_id(request.case_id),
            columns,
            session=acting_session(),
            at_least=self._revisions.at_least(request.at_least_revision),
        )
        return pb.DescribeCaseResponse(case=answers.a_case(described, columns))

    async def count_cases(self, request: pb.CountCasesRequest) -> pb.CountCasesResponse:
        counted = await self._questions.count_cases(
            acting_login(),
            asked.counting(request),
            session=acting_session(),
            at_least=self._revisions.at_least(request.at_least_revision),
        )
        return answers.a_count(counted)

    async def list_related_cases(self, request: pb.ListRelatedCasesRequest) -> pb.ListRelatedCasesResponse:
        limit = pages.size(request.page_size, DEFAULT_PAGE_SIZE)
        login, related = acting_login(), Related(asked.case_id(request.case_id))
        columns = columns_of(request.columns)
        found = await self._questions.list_related_cases(
            login,
            related.case_id,
            self._places.place(request.page_token, login, related),
            limit + 1,
            columns,
            session=acting_session(),
            at_least=self._revisions.at_least(request.at_least_revision),
        )

        def token(last: Place) -> str:
            return self._places.token(last, login, related)

        return answers.related_cases(found, limit, token, columns)

    async def export_cases(self, request: pb.ExportCasesRequest) -> Parts:
        columns_of(request.columns)
        exported = self._exports.export_cases(
            acting_login(),
            acting_session(),
            asked.listing(request, ORDERS),
            csv_columns(request.columns),
            at_least=self._revisions.at_least(request.at_least_revision),
        )
        async with aclosing(exported):
            async for part in exported:
                text = part.text.encode()
                for begin in range(0, len(text), MAX_PART_BYTES):
                    yield pb.ExportCasesResponse(csv=text[begin : begin + MAX_PART_BYTES])
                if part.case_count is not None:
                    yield pb.ExportCasesResponse(case_count=part.case_count)
