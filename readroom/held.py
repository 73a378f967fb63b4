"""Commands on the queue: what waits for a person, and what they do about it.

Routing knows what waits and why. Ingest knows what was received, and tells of the patient only those who may
see cases there. So a list is put together from both.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby, islice
from typing import TypeVar

import click

from kernel.errors import Conflict, Denied, NotFound
from readroom import names
from readroom.acting import acting, listing
from readroom.client import Readroom
from readroom.facilities import save_rule
from readroom.pages import every
from readroom.show import Column, Output, Table, instant
from readroom.words import HELD, REASONS
from wire.access.v1.access_pb2 import ListCasesRequest
from wire.ingest.v1.ingest_pb2 import DescribeHeldPartsRequest, HeldPart, Identity
from wire.routing.v1.routing_pb2 import (
    Change,
    DiscardPartRequest,
    DistributeRequest,
    Ending,
    EndpointRule,
    Held,
    ListHeldRequest,
    MoveOnRequest,
    Placement,
    ReevaluateRequest,
    ReleasePartRequest,
    SuggestRulesRequest,
    SuggestRulesResponse,
)

_AT_ONCE = 100
"""Parts that ingest describes, and values for which routing suggests a rule, in one request."""

_CHANGES_AT_ONCE = 25
"""What one request re-evaluates."""


T = TypeVar("T")


def _batches(items: Iterable[T], at_once: int = _AT_ONCE) -> Iterator[list[T]]:
    """The items, as many at once as a request takes."""
    remaining = iter(items)
    while some := list(islice(remaining, at_once)):
        yield some


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that waits, with what the caller may know of it."""

    held: Held
    part: HeldPart
    suggestion: SuggestRulesResponse.Suggestion

    @property
    def values(self) -> list[str]:
        return list(self.part.mapping_values)


async def queue(readroom: Readroom) -> list[Row]:
    """Everything that waits, oldest first."""
    held = [h async for h in every(readroom.routing.ListHeld, ListHeldRequest(), lambda page: page.held)]
    return await _described(readroom, held)


async def one(readroom: Readroom, held_id: str) -> Row:
    """What waits under this id."""
    async for held in every(readroom.routing.ListHeld, ListHeldRequest(), lambda page: page.held):
        if held.held_id == held_id:
            (row,) = await _described(readroom, [held])
            return row
    raise NotFound(f"nothing waits under `{held_id}`, or not for you: `readroom held list` shows what does")


async def _described(readroom: Readroom, held: Sequence[Held]) -> list[Row]:
    parts: dict[tuple[str, int], HeldPart] = {}
    for some in _batches(dict.fromkeys((h.study_id, h.part) for h in held)):
        asked = [DescribeHeldPartsRequest.PartName(study_id=study, part=part) for study, part in some]
        answer = await readroom.ingest.DescribeHeldParts(DescribeHeldPartsRequest(parts=asked))
        parts |= {(part.study_id, part.part): part for part in answer.parts}
    parts |= await _of_cases(readroom, held, parts)
    suggested = await _suggested(readroom, held, parts)
    nothing = SuggestRulesResponse.Suggestion()
    return [
        Row(h, parts.get((h.study_id, h.part), HeldPart()), suggested.get(h.held_id, nothing)) for h in held
    ]


async def _of_cases(
    readroom: Readroom, held: Sequence[Held], known: dict[tuple[str, int], HeldPart]
) -> dict[tuple[str, int], HeldPart]:
    """What else of another patient's parts is for whoever may correct the case, wherever it was received."""
    found: dict[tuple[str, int], HeldPart] = {}
    cases = {
        h.case_id
        for h in held
        if h.kind == Held.KIND_ANOTHER_PATIENT
        and not known.get((h.study_id, h.part), HeldPart()).shows_patient
    }
    for case_id in sorted(cases):
        with suppress(Denied, NotFound):  # they only administer the hub
            answer = await readroom.ingest.DescribeHeldParts(DescribeHeldPartsRequest(case_id=case_id))
            found |= {(part.study_id, part.part): part for part in answer.parts}
    return found


async def _patient_of_case(readroom: Readroom, case_id: str) -> str | None:
    """The patient of a case, if the caller sees the case."""
    if not case_id:
        return None
    async for case in every(readroom.access.ListCases, ListCasesRequest(page_size=500), lambda p: p.cases):
        if case.case_id == case_id:
            told = (case.patient_name, case.patient_id, case.patient_birth_date, case.patient_sex)
            return _joined(told)
    return None


async def _suggested(
    readroom: Readroom, held: Sequence[Held], parts: dict[tuple[str, int], HeldPart]
) -> dict[str, SuggestRulesResponse.Suggestion]:
    """The nearest rule for each thing that waits for its mapping value, by its id.

    Only whoever administers a hub is told, and of another patient's images no rule says where they belong.
    """
    found: dict[str, SuggestRulesResponse.Suggestion] = {}
    asked = [
        (part.receiving_facility_id, part.mapping_values[0], h.held_id)
        for h in held
        if h.kind != Held.KIND_ANOTHER_PATIENT
        and (part := parts.get((h.study_id, h.part)))
        and part.mapping_values
        and part.mapping_tag
    ]
    for hub, at_hub in groupby(sorted(asked), key=lambda each: each[0]):
        for some in _batches(at_hub):
            request = SuggestRulesRequest(hub_facility_id=hub, mapping_values=[value for _, value, _ in some])
            with suppress(Denied):  # they correct cases that came through the hub
                answer = await readroom.routing.SuggestRules(request)
                found |= {
                    held_id: each for (_, _, held_id), each in zip(some, answer.suggestions, strict=True)
                }
    return found


def _patients(part: HeldPart) -> list[str]:
    if not part.shows_patient:
        return []
    return [_patient(identity) for identity in part.identities] or ["nobody can say which"]


def _patient(identity: Identity) -> str:
    """Name, id with its issuer, birth date and sex, as received."""
    issuer = identity.issuer_of_patient_id
    patient_id = f"{identity.patient_id} of {issuer}" if issuer else identity.patient_id
    return _joined((identity.patient_name, patient_id, identity.patient_birth_date, identity.patient_sex))


def _joined(told: Iterable[str]) -> str:
    return " · ".join(each for each in told if each) or "without a name"


async def queue_table(readroom: Readroom) -> Table[Row]:
    """The columns of what waits."""
    name = await names.facility_name(readroom)

    def suggestion(row: Row) -> str | None:
        if not row.suggestion.HasField("rule"):
            return None
        rule = row.suggestion.rule
        return f"{rule.text} → {name(rule.endpoint_facility_id)}"

    return (
        Column("held_at", lambda r: instant(r.held.held_at)),
        Column("kind", lambda r: HELD.word(r.held.kind)),
        Column("facility", lambda r: r.held.facility_name or r.held.facility_id),
        Column("mapping_value", lambda r: r.values),
        Column("suggestion", suggestion),
        Column("gateway", lambda r: r.part.gateway_name or None),
        Column("patient", lambda r: _patients(r.part)),
        Column("reason", lambda r: r.held.reason),
        Column("held_id", lambda r: r.held.held_id),
        Column("case_id", lambda r: r.held.case_id or None, json_only=True),
        Column("study_id", lambda r: r.held.study_id or None, json_only=True),
        Column("part", lambda r: r.held.part or None, json_only=True),
        Column("instance_count", lambda r: r.part.instance_count or r.held.instance_count, json_only=True),
        Column("differs", lambda r: list(r.held.differs), json_only=True),
        Column("mapping_tag", lambda r: r.part.mapping_tag or None, json_only=True),
        Column("calling_ae_title", lambda r: r.part.calling_ae_title or None, json_only=True),
        Column("study_description", lambda r: r.part.study_description or None, json_only=True),
        Column("study_date", lambda r: r.part.study_date or None, json_only=True),
        Column("modalities", lambda r: list(r.part.modalities), json_only=True),
        Column("series_instance_uid", lambda r: r.held.series_instance_uid or None, json_only=True),
    )


@click.group()
def held() -> None:
    """What waits for a person, and what to do about it.

    Of an undistributed case: `distribute`, or `rule` and then `reevaluate`. Of a part with another mapping
    value: `rule` and then `reevaluate`, or `release` or `discard`. Of another patient's images: `show`, then
    `release` or `discard`.
    """


@held.command("list")
@listing
async def list_held(readroom: Readroom, out: Output) -> None:
    """List undistributed cases, held parts and held copies, oldest first.

    You see what waits where you hold `facility.admin`, and the parts of cases where you hold `study.correct`.
    PATIENT is empty unless a privilege of your own shows you cases there.
    """
    out.items(await queue_table(readroom), await queue(readroom))


@held.command("show")
@click.argument("held_id")
@listing
async def show(readroom: Readroom, out: Output, held_id: str) -> None:
    """Show everything that you may know of one of them."""
    row = await one(readroom, held_id)
    case_patient = await _patient_of_case(readroom, row.held.case_id)
    table = (*await queue_table(readroom), Column[Row]("case_patient", lambda _: case_patient))
    if out.as_json:
        out.item(table, row)
        return
    shown = [(column.key, column.value(row)) for column in table]
    out.items(
        (
            Column[tuple[str, object]]("what", lambda each: each[0].replace("_", " ")),
            Column[tuple[str, object]]("is", lambda each: each[1]),  # type: ignore[arg-type,return-value]
        ),
        [each for each in shown if each[1] not in (None, [], "")],
    )


_preview = click.option("--preview", is_flag=True, help="Only say what would end; move nothing.")


async def _case_id(readroom: Readroom, named: str) -> str:
    """The case of what waits under this id, or the case with this id."""
    async for each in every(readroom.routing.ListHeld, ListHeldRequest(), lambda page: page.held):
        if each.held_id == named and each.case_id:
            return str(each.case_id)
    return named


async def placement_table(readroom: Readroom, ending: Ending) -> Table[Placement]:
    """The columns of a placement after a move, with what ended."""
    name = await names.facility_name(readroom)
    return (
        Column("case_id", lambda p: p.case_id),
        Column("facility", lambda p: name(p.facility_id)),
        Column("received_via", lambda p: name(p.received_via_facility_id) or None),
        Column("reason", lambda p: REASONS.word(p.reason)),
        Column("grants_that_end", lambda _: list(ending.grant_logins) or ending.grant_count),
        Column("folders_that_lose_it", lambda _: list(ending.folder_names) or ending.folder_count),
    )


async def distribute_case(
    readroom: Readroom, out: Output, case: str, facility: str, *, preview: bool
) -> None:
    """Sends an undistributed case from its hub to an endpoint."""
    request = DistributeRequest(
        case_id=await _case_id(readroom, case),
        facility_id=await names.facility_id(readroom, facility),
        preview=preview,
    )
    answer = await readroom.routing.Distribute(request)
    out.item(await placement_table(readroom, answer.ending), answer.placement)


@held.command("distribute")
@click.argument("case")
@click.argument("facility")
@_preview
@acting
async def distribute(readroom: Readroom, out: Output, case: str, facility: str, preview: bool) -> None:
    """Send an undistributed case from its hub to the endpoint FACILITY.

    CASE is a case id, or the id of what waits. Grants of the case end, and folders lose it.
    """
    await distribute_case(readroom, out, case, facility, preview=preview)


@held.command("move")
@click.argument("case")
@click.argument("facility")
@_preview
@acting
async def move(readroom: Readroom, out: Output, case: str, facility: str, preview: bool) -> None:
    """Move a case that came through a hub to another endpoint FACILITY, or back to the hub.

    Grants of the case end, and folders lose it.
    """
    request = MoveOnRequest(
        case_id=await _case_id(readroom, case),
        facility_id=await names.facility_id(readroom, facility),
        preview=preview,
    )
    answer = await readroom.routing.MoveOn(request)
    out.item(await placement_table(readroom, answer.ending), answer.placement)


@held.command("release")
@click.argument("held_id")
@click.option("--preview", is_flag=True, help="Only say which parts would be released.")
@acting
async def release(readroom: Readroom, out: Output, held_id: str, preview: bool) -> None:
    """Say that a held part belongs to its case; of another patient, that both are one patient.

    Needs `study.correct` at the facility of the case, and a privilege of your own to see it; of a part with
    another mapping value, `facility.admin` at its hub as well.
    """
    row = await one(readroom, held_id)
    patient = ", ".join(_patients(row.part)) or "a patient that you may not know"
    case_patient = await _patient_of_case(readroom, row.held.case_id) or "a patient that you may not know"
    answer = await readroom.routing.ReleasePart(ReleasePartRequest(held_id=held_id, preview=preview))
    verb = "would join" if preview else "join"
    out.done(
        f"{len(answer.parts)} of the held parts, of {patient}, {verb} the case of {case_patient}",
        patient=patient,
        case_patient=case_patient,
        case_id=answer.case_id,
        study_id=answer.study_id,
        parts=list(map(str, answer.parts)),
    )


@held.command("discard")
@click.argument("held_id")
@click.option("--preview", is_flag=True, help="Only say which parts would be discarded.")
@acting
async def discard(readroom: Readroom, out: Output, held_id: str, preview: bool) -> None:
    """Say that a held part does not belong to its case: it is never shown.

    Its images stay stored, and go when the study is deleted. Needs what `held release` needs.
    """
    answer = await readroom.routing.DiscardPart(DiscardPartRequest(held_id=held_id, preview=preview))
    would = "would be discarded" if preview else "discarded"
    out.done(
        f"{len(answer.parts)} of the held parts {would}",
        case_id=answer.case_id,
        study_id=answer.study_id,
        parts=list(map(str, answer.parts)),
    )


@held.command("rule")
@click.argument("held_id")
@click.argument("endpoint")
@acting
async def make_rule(readroom: Readroom, out: Output, held_id: str, endpoint: str) -> None:
    """Make a rule of the mapping value of what waits: studies with it go to ENDPOINT from now on.

    What waits already stays: `readroom held reevaluate` applies the rule to it.
    """
    row = await one(readroom, held_id)
    if len(row.values) != 1:
        raise Conflict("you know no single mapping value of it: use `readroom rule create`")
    rule = EndpointRule(
        endpoint_facility_id=await names.facility_id(readroom, endpoint),
        hub_facility_id=row.held.facility_id,
        text=row.values[0],
    )
    await save_rule(readroom, out, rule)


@held.command("reevaluate")
@click.argument("hub")
@click.option("--apply", is_flag=True, help="Make exactly these changes.  [default: only show them]")
@listing
async def reevaluate(readroom: Readroom, out: Output, hub: str, apply: bool) -> None:
    """Show what the rules of HUB make by now of what waits there; with --apply, do it.

    Cases that somebody has worked with stay, and so does what may show another patient.
    """
    hub_id = await names.facility_id(readroom, hub)
    request = ReevaluateRequest(hub_facility_id=hub_id)
    changes = [c async for c in every(readroom.routing.Reevaluate, request, lambda page: page.changes)]
    if apply:
        wanted, stay = [c for c in changes if not c.why_not], [c for c in changes if c.why_not]
        changes = stay
        for some in _batches(wanted, _CHANGES_AT_ONCE):
            request = ReevaluateRequest(hub_facility_id=hub_id, changes=some)
            changes += (await readroom.routing.Reevaluate(request)).changes
    name = await names.facility_name(readroom)
    done = "moved" if apply else "moves"
    table = (
        Column[Change]("case_id", lambda c: c.case_id),
        Column[Change]("what", lambda c: "the case" if not c.part else f"part {c.part}"),
        Column[Change]("to", lambda c: name(c.to_facility_id)),
        Column[Change]("outcome", lambda c: f"stays: {c.why_not}" if c.why_not else done),
        Column[Change]("study_id", lambda c: c.study_id, json_only=True),
        Column[Change]("version", lambda c: c.version, json_only=True),
        Column[Change]("why_not", lambda c: c.why_not or None, json_only=True),
    )
    out.items(table, changes)


@click.command("distribute")
@click.argument("case")
@click.argument("facility")
@_preview
@acting
async def distribute_alone(readroom: Readroom, out: Output, case: str, facility: str, preview: bool) -> None:
    """The same as `held distribute`."""
    await distribute_case(readroom, out, case, facility, preview=preview)


COMMANDS = (held, distribute_alone)
