"""Writing the report of a case: lock, draft and completion, beside what was written before.

Each act is a form that is posted, and the forms hold what the person has written so far. So nothing of it is
lost when an act is refused, or meets a service that is away: the page comes back with the text and says why.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any, cast
from uuid import UUID

from kernel.errors import Invalid, ReadroomError, Unauthenticated, Unavailable
from web import errors
from web.asked import Answer, Asked, Data, Page, Redirect
from web.pages import case
from wire.access.v1 import access_pb2
from wire.access.v1.identity_pb2 import DescribeMeRequest
from wire.reporting.v1 import reporting_pb2 as pb

SAID: Mapping[str, str] = {
    "completed": "The report is signed.",
    "added": "The addendum is signed.",
    "reopened": "The case is open to be read again.",
    "unlocked": "You gave the lock back. Your draft is kept.",
    "saved": "Your draft is saved.",
    "broken": "The lock is broken. Whoever held it is told so.",
}
"""By what was done, which the address names after an act; nothing of a patient does."""


@dataclass(frozen=True, slots=True)
class Typed:
    """What the form held.

    Attributes:
        made_from: version of the draft that the person had before them; 0: there was none.
    """

    text: str
    made_from: int

    @classmethod
    def of(cls, asked: Asked) -> "Typed":
        version = asked.form.get("made_from", "")
        known = version.isascii() and version.isdigit() and len(version) <= _VERSION_DIGITS
        return cls(asked.form.get("text", "").replace("\r\n", "\n"), int(version) if known else 0)

    @property
    def is_empty(self) -> bool:
        return not self.text.strip()


_VERSION_DIGITS = 18


async def show(asked: Asked) -> Answer:
    """The page: with the person's draft, or with another text that `use` names by its version."""
    return await _page(asked, case.id_of(asked.path["case_id"]), None, said=asked.query.get("said", ""))


async def keep(asked: Asked) -> Answer:
    """Saves the draft as somebody types, renews their lock, and tells who else has the case open.

    A script asks, and is told in words.
    """
    case_id, typed = case.id_of(asked.path["case_id"]), Typed.of(asked)
    services, flow = asked.house.services, asked.house.flow
    reporting = services.reporting
    said: dict[str, str] = {}
    try:
        if asked.form.get("here"):
            # A page that cannot load any more is at no case: whoever does not see it is told so here.
            await services.access.DescribeCase(access_pb2.DescribeCaseRequest(case_id=case_id))
            me = await services.identities.DescribeMe(DescribeMeRequest())
            said["here"] = ", ".join((await case.around(asked, case_id, me))["here"])
        if asked.form.get("renew"):
            lock = (await reporting.RenewLock(pb.RenewLockRequest(case_id=case_id))).lock
            said["until"] = lock.ends_at.ToDatetime(tzinfo=UTC).isoformat()
        if asked.form.get("typed") and not typed.is_empty:
            draft = await _saved(asked, case_id, typed)
            said |= {
                "made_from": str(draft.version),
                "saved": draft.saved_at.ToDatetime(tzinfo=UTC).isoformat(),
            }
        if asked.form.get("leave"):
            await flow.close(asked.signed_in, UUID(case_id))
    except ReadroomError as refused:
        return Data({"problem": errors.sentence(refused)}, errors.told(refused).status)
    return Data(said)


async def rescue(asked: Asked) -> None:
    """Saves the text of a form that came after its session was locked."""
    await _saved(asked, case.id_of(asked.path["case_id"]), Typed.of(asked))


# The acts: each answers what it says afterwards.


async def _lock(asked: Asked, case_id: str, _: Typed) -> str:
    await asked.house.services.reporting.Lock(pb.LockRequest(case_id=case_id))
    return ""


async def _take_over(asked: Asked, case_id: str, _: Typed) -> str:
    await asked.house.services.reporting.Lock(pb.LockRequest(case_id=case_id, take_over=True))
    return ""


async def _renew(asked: Asked, case_id: str, _: Typed) -> str:
    await asked.house.services.reporting.RenewLock(pb.RenewLockRequest(case_id=case_id))
    return ""


async def _break(asked: Asked, case_id: str, _: Typed) -> str:
    await asked.house.services.reporting.BreakLock(pb.BreakLockRequest(case_id=case_id))
    return "broken"


async def _draft(asked: Asked, case_id: str, typed: Typed) -> str:
    await _saved(asked, case_id, typed)
    return "saved"


async def _unlock(asked: Asked, case_id: str, typed: Typed) -> str:
    if not typed.is_empty:
        await _saved(asked, case_id, typed)
    await asked.house.services.reporting.Unlock(pb.UnlockRequest(case_id=case_id))
    return "unlocked"


async def _complete(asked: Asked, case_id: str, typed: Typed) -> str:
    chosen = asked.form.get("read_type", "")
    if not (chosen.isascii() and chosen.isdigit() and len(chosen) < 3):
        raise Invalid("choose what kind of report it is, then complete it")
    read_type = cast("access_pb2.ReadType.ValueType", int(chosen))
    request = pb.CompleteRequest(
        case_id=case_id, read_type=read_type, text=typed.text, made_from=typed.made_from
    )
    await asked.house.services.reporting.Complete(request)
    return "completed"


async def _add(asked: Asked, case_id: str, typed: Typed) -> str:
    request = pb.AddAddendumRequest(
        case_id=case_id, report_id=asked.form.get("report_id", ""), text=typed.text
    )
    await asked.house.services.reporting.AddAddendum(request)
    return "added"


async def _reopen(asked: Asked, case_id: str, _: Typed) -> str:
    await asked.house.services.reporting.Reopen(pb.ReopenRequest(case_id=case_id))
    return "reopened"


ACTS: Mapping[str, Callable[[Asked, str, Typed], Awaitable[str]]] = {
    "lock": _lock,
    "take-over": _take_over,
    "renew": _renew,
    "break": _break,
    "draft": _draft,
    "unlock": _unlock,
    "complete": _complete,
    "addendum": _add,
    "reopen": _reopen,
}

_CONSUME = {"draft", "unlock", "complete", "addendum"}
"""After these the text is where it belongs; after others what was typed stays on the page."""


def act(verb: str) -> Callable[[Asked], Awaitable[Answer]]:
    """The handler of one act: done, it leads to the page; refused, the page comes back with the text."""

    async def handle(asked: Asked) -> Answer:
        case_id, typed = case.id_of(asked.path["case_id"]), Typed.of(asked)
        try:
            said = await ACTS[verb](asked, case_id, typed)
        except Unauthenticated:
            raise
        except ReadroomError as refused:
            status = errors.told(refused).status
            is_addendum = verb == "addendum"
            return await _page(
                asked,
                case_id,
                typed,
                problem=errors.sentence(refused),
                status=status,
                is_addendum=is_addendum,
            )
        if verb not in _CONSUME and not typed.is_empty:
            return await _page(asked, case_id, typed, said=said)
        return Redirect(f"/cases/{case_id}/report" + (f"?said={said}" if said else ""))

    return handle


async def _saved(asked: Asked, case_id: str, typed: Typed) -> pb.Draft:
    if typed.is_empty:
        raise Invalid("there is no text to save: write something first")
    request = pb.SaveDraftRequest(case_id=case_id, text=typed.text, made_from=typed.made_from)
    return (await asked.house.services.reporting.SaveDraft(request)).draft


async def _page(
    asked: Asked,
    case_id: str,
    typed: Typed | None,
    *,
    problem: str = "",
    said: str = "",
    status: int = 200,
    is_addendum: bool = False,
) -> Page:
    """The page with what was typed; without it with the person's draft."""
    values, prior = await asyncio.gather(case.loaded(asked, case_id), _prior(asked, case_id))
    reports: pb.ListReportsResponse = values["reports"]
    is_away = "its reports" in values["missing"]
    if typed is not None and not typed.is_empty and is_away:
        problem = problem or "your text is not saved: reporting does not answer; try again"
        status = errors.TOLD[Unavailable].status if status == 200 else status
    login = asked.signed_in.person.login.lower()
    draft = next((d for d in reports.drafts if d.author_login == login and not d.author_only), None)
    version = draft.version if draft else 0
    written = _written(asked, reports, draft)
    if typed is not None and not typed.is_empty and not is_addendum:
        written = typed.text
    return Page(
        "report/page.html",
        {
            **values,
            **await case.around(asked, case_id, values["me"]),
            "prior": prior,
            "lock": _standing(reports, login),
            "may": reports.may,
            "draft": draft,
            "written": written,
            "addendum": typed.text if typed is not None and is_addendum else "",
            "addendum_to": asked.form.get("report_id", ""),
            "read_type": asked.form.get("read_type", ""),
            "made_from": typed.made_from if typed is not None and is_away else version,
            "others": [d for d in reports.drafts if d.text != written],
            "login": login,
            "problem_text": problem,
            "said": SAID.get(said, ""),
            "done": said,
        },
        status,
    )


def _written(asked: Asked, reports: pb.ListReportsResponse, draft: pb.Draft | None) -> str:
    """The text to go on with: the one whose version the address names, else their draft."""
    named = asked.query.get("use", "")
    used = next((d for d in reports.drafts if named and str(d.version) == named), None)
    return (used or draft or pb.Draft()).text


def _standing(reports: pb.ListReportsResponse, login: str) -> str:
    """How the lock stands to the person: `free`, `mine`, `elsewhere` or `taken`."""
    if not reports.HasField("lock"):
        return "free"
    if reports.lock.holder_login != login:
        return "taken"
    return "elsewhere" if reports.lock.elsewhere else "mine"


async def _prior(asked: Asked, case_id: str) -> Mapping[str, Any] | None:
    """Another case of the patient that the person wants beside this one, with its reports."""
    named = asked.query.get("beside", "")
    if not named or named == case_id:
        return None
    try:
        return await case.loaded(asked, case.id_of(named))
    except ReadroomError:
        return None
