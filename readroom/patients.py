"""Commands on patients: which records are one person."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click

from readroom import names
from readroom.acting import acting
from readroom.client import Readroom
from readroom.show import Output, clock, instant
from wire.access.v1.access_pb2 import (
    DescribePatientRequest,
    DescribePatientResponse,
    LinkPatientsRequest,
    LinkPatientsResponse,
    PatientLink,
    PatientRecord,
    UnlinkPatientsRequest,
    UnlinkPatientsResponse,
)


@click.group()
def patient() -> None:
    """Patients: which patient records are one person."""


@patient.command("show")
@click.argument("case_id")
@acting
async def show_patient(readroom: Readroom, out: Output, case_id: str) -> None:
    """Show the patient record of a case that you see, and what is linked with it.

    It needs `access.admin` at a facility; `readroom case related` lists studies of the patient without it.
    """
    told = await readroom.access.DescribePatient(DescribePatientRequest(case_id=case_id))
    facility = await names.facility_name(readroom)
    out.told(known_lines(told, facility), _known_as_object(told))


@patient.command("link")
@click.argument("case_id")
@click.argument("other_case_id")
@click.option("--preview", is_flag=True, help="Print what the link would show to whom, and change nothing.")
@acting
async def link_patients(
    readroom: Readroom, out: Output, case_id: str, other_case_id: str, preview: bool
) -> None:
    """Say that the patients of two cases are one person.

    Users whose filter lets them see other studies of a patient then see those of both. You need to see both
    cases, and to administer every facility that has a case of either patient.
    """
    request = LinkPatientsRequest(case_id=case_id, other_case_id=other_case_id, preview=preview)
    told = await readroom.access.LinkPatients(request)
    facility = await names.facility_name(readroom)
    out.told(linked_lines(told, facility), _linked_as_object(told))


@patient.command("unlink")
@click.argument("link_id")
@acting
async def unlink_patients(readroom: Readroom, out: Output, link_id: str) -> None:
    """Take a link back: everything is as it would be without it."""
    answer = await readroom.access.UnlinkPatients(UnlinkPatientsRequest(link_id=link_id))
    facility = await names.facility_name(readroom)
    out.told(
        unlinked_lines(answer, facility),
        {
            "link_id": link_id,
            "records": [_record_as_object(each) for each in answer.records],
            "revision": answer.revision,
        },
    )


def known_lines(told: DescribePatientResponse, facility: Callable[[str], str]) -> Iterator[str]:
    """The record of a case, what is linked with it, and who said so; `facility` names one."""
    if not told.HasField("record"):
        yield "the case has no patient ID, so nothing says whose it is"
        return
    yield _record(told.record, facility)
    for other in told.linked:
        yield f"linked with {_record(other, facility)}"
    for link in told.links:
        yield f"link {link.link_id}: by `{link.linked_by}`, {clock(instant(link.linked_at))}"
    if told.left_out:
        yield f"linked with {told.left_out} more, whom you do not administer or of whom you see no case"


def unlinked_lines(told: UnlinkPatientsResponse, facility: Callable[[str], str]) -> Iterator[str]:
    """Whose link it was, as far as the caller sees cases of theirs."""
    if not told.records:
        yield "no longer linked: two patients of whom you see no case"
        return
    yield "no longer linked:"
    for each in told.records:
        yield f"  {_record(each, facility)}"
    if len(told.records) == 1:
        yield "  and a patient of whom you see no case"


def linked_lines(told: LinkPatientsResponse, facility: Callable[[str], str]) -> Iterator[str]:
    """Both identities, and who sees more, or would."""
    is_done = told.HasField("link")
    yield "linked:" if is_done else "would be linked:"
    yield f"  {_record(told.record, facility)}"
    yield f"  {_record(told.other_record, facility)}"
    for gain in told.gains:
        yield f"`{gain.login}` {'sees' if is_done else 'would see'} {gain.cases} more"
    if told.gains_left_out:
        yield f"and {told.gains_left_out} more users see more"
    if not told.gains:
        yield f"nobody whom you manage {'sees' if is_done else 'would see'} more"
    if is_done:
        yield f"to take it back: readroom patient unlink {told.link.link_id}"


def _record(record: PatientRecord, facility: Callable[[str], str]) -> str:
    """An identity on one line."""
    of = record.issuer or facility(record.facility_id)
    born = f", born {record.patient_birth_date}" if record.patient_birth_date else ""
    return f"{record.patient_name or '(no name)'}{born}, {record.patient_id} of {of}"


def _known_as_object(told: DescribePatientResponse) -> Mapping[str, Any]:
    return {
        "record": _record_as_object(told.record) if told.HasField("record") else None,
        "linked": [_record_as_object(each) for each in told.linked],
        "links": [_link_as_object(each) for each in told.links],
        "left_out": told.left_out,
    }


def _linked_as_object(told: LinkPatientsResponse) -> Mapping[str, Any]:
    return {
        "record": _record_as_object(told.record),
        "other_record": _record_as_object(told.other_record),
        "link": _link_as_object(told.link) if told.HasField("link") else None,
        "gains": [{"user_id": each.user_id, "login": each.login, "cases": each.cases} for each in told.gains],
        "gains_left_out": told.gains_left_out,
        "revision": told.revision or None,
    }


def _record_as_object(record: PatientRecord) -> Mapping[str, Any]:
    return {
        "patient_record_id": record.patient_record_id,
        "patient_id": record.patient_id,
        "issuer": record.issuer or None,
        "facility_id": record.facility_id or None,
        "patient_name": record.patient_name,
        "patient_birth_date": record.patient_birth_date,
    }


def _link_as_object(link: PatientLink) -> Mapping[str, Any]:
    return {
        "link_id": link.link_id,
        "record_ids": [link.one_record_id, link.other_record_id],
        "linked_by": link.linked_by,
        "linked_at": instant(link.linked_at),
    }


COMMANDS = (patient,)
