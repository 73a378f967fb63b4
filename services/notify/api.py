"""NotifyService: proto to domain and back."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import grpc

from kernel.delivery import State
from kernel.ids import NoticeId, parse_id
from kernel.language import Language
from plumbing import pages
from plumbing.callers import acting_login
from plumbing.rpc import Server
from plumbing.timestamps import timestamp
from services.notify.domain import Notice
from services.notify.usecases import Codes, Notices
from wire.access.v1 import access_pb2
from wire.notify.v1 import notify_pb2 as pb
from wire.notify.v1 import notify_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

STATE_VALUES = {each: pb.Notice.State.Value(f"STATE_{each.name}") for each in State}
LANGUAGES: dict[int, Language] = {
    access_pb2.Language.Value(f"LANGUAGE_{each.name}"): each for each in Language
}


@dataclass(frozen=True, slots=True)
class NotifyApi(notify_pb2_grpc.NotifyServiceServicer):
    """The servicer."""

    notices: Notices
    codes: Codes

    async def SendText(self, request: pb.SendTextRequest, context: Context) -> pb.SendTextResponse:  # noqa: N802
        # Who has not chosen is written to in English.
        language = LANGUAGES.get(request.language, Language.EN)
        await self.codes.send_text(request.mobile_number, request.code, language)
        return pb.SendTextResponse()

    async def CheckNumbers(  # noqa: N802
        self, request: pb.CheckNumbersRequest, context: Context
    ) -> pb.CheckNumbersResponse:
        served, countries = self.codes.check_numbers(request.mobile_numbers)
        return pb.CheckNumbersResponse(served=served, countries=countries)

    async def ListDeliveries(  # noqa: N802
        self, request: pb.ListDeliveriesRequest, context: Context
    ) -> pb.ListDeliveriesResponse:
        asked = pages.asked(request, UUID)
        found = await self.notices.list_deliveries(
            acting_login(), NoticeId(asked.after) if asked.after else None, asked.limit
        )
        page, token = asked.rows(found, lambda notice: notice.id, _notice)
        return pb.ListDeliveriesResponse(notices=page, next_page_token=token)

    async def Resend(self, request: pb.ResendRequest, context: Context) -> pb.ResendResponse:  # noqa: N802
        notice_id = NoticeId(parse_id(request.notice_id, "notice_id"))
        return pb.ResendResponse(notice=_notice(await self.notices.resend(acting_login(), notice_id)))


def serve(server: Server, api: NotifyApi) -> None:
    """Adds NotifyService to a server."""
    server.add(
        notify_pb2_grpc.add_NotifyServiceServicer_to_server,
        api,
        pb.DESCRIPTOR.services_by_name["NotifyService"].full_name,
    )


def _notice(notice: Notice) -> pb.Notice:
    return pb.Notice(
        notice_id=str(notice.id),
        message=notice.message,
        intent=notice.about.intent,
        state=STATE_VALUES[notice.state],
        attempts=notice.attempts,
        asked_at=timestamp(notice.asked_at),
        sent_at=timestamp(notice.sent_at),
        last_error=notice.last_error,
    )
