"""AccessService: an explanation, domain to proto."""

from dataclasses import replace
from uuid import UUID

from plumbing.timestamps import timestamp
from services.access import answers
from services.access.administration import HeldPrivilege
from services.access.contact import NO_CONTACT
from services.access.domain import Permission
from services.access.explain import (
    ExplainedClause,
    ExplainedFacility,
    ExplainedFilter,
    ExplainedPath,
    Explanation,
    Obstacle,
    Reason,
)
from services.access.filter.trace import Part
from wire.access.v1 import access_pb2 as pb

MAX_FOLDERS = 20
"""As many as a help desk reads aloud."""
MAX_CLAUSES, MAX_VALUES, MAX_NEAR = 201, 8, 2
MAX_CLAUSE_CHARACTERS, MAX_SHOWN_CHARACTERS, MAX_NEAR_CHARACTERS = 500, 128, 300
"""All of it fits into one message, whatever a sender and an administrator wrote."""

OBSTACLE_VALUES = {each: pb.Explanation.Obstacle.Value(f"OBSTACLE_{each.name}") for each in Obstacle}
PART_VALUES = {each: pb.ExplainedClause.Part.Value(f"PART_{each.name}") for each in Part}
TRUTH_VALUES = {None: pb.TRUTH_UNKNOWN, False: pb.TRUTH_FALSE, True: pb.TRUTH_TRUE}
REASON_VALUES = {each: pb.ExplainedPath.Reason.Value(f"REASON_{each.name}") for each in Reason}


def an_explanation(told: Explanation) -> pb.Explanation:
    facility = told.case.facility
    held = HeldPrivilege.of(told.user, facility, told.privilege, told.at)
    return pb.Explanation(
        user=answers.a_user(replace(told.user, permissions=frozenset(), contact=NO_CONTACT)),
        side=answers.SIDE_VALUES[told.side],
        case_id=str(told.case.id),
        facility_id=str(facility.id),
        facility_name=facility.name,
        at=timestamp(told.at),
        obstacle=OBSTACLE_VALUES[told.obstacle] if told.obstacle else pb.Explanation.OBSTACLE_UNSPECIFIED,
        decision=answers.a_decision(told.decision),
        privilege=answers.a_privilege(held),
        role_ceiling=answers.LEVEL_VALUES[told.ceiling],
        reverts_to=answers.LEVEL_VALUES[told.effective.reverts_to],
        holds_view_images=told.holds[Permission.VIEW_IMAGES],
        holds_report_view=told.holds[Permission.VIEW_REPORT],
        paths=map(_a_path, told.paths),
        filter=_a_filter(told.filter) if told.filter else None,
    )


def _a_filter(told: ExplainedFilter) -> pb.ExplainedFilter:
    return pb.ExplainedFilter(
        broken=told.is_broken,
        historical=answers.HISTORICAL_VALUES[told.historical],
        values_shown=told.values_shown,
        clauses=map(_a_clause, told.clauses[:MAX_CLAUSES]),
        clauses_left_out=max(0, len(told.clauses) - MAX_CLAUSES),
    )


def _a_clause(told: ExplainedClause) -> pb.ExplainedClause:
    return pb.ExplainedClause(
        part=PART_VALUES[told.part],
        depth=told.depth,
        truth=TRUTH_VALUES[told.truth],
        text=_cut(told.text, MAX_CLAUSE_CHARACTERS),
        values=[_cut(value, MAX_SHOWN_CHARACTERS) for value in told.values[:MAX_VALUES]],
        values_left_out=max(0, len(told.values) - MAX_VALUES),
        near_misses=[_cut(near, MAX_NEAR_CHARACTERS) for near in told.near[:MAX_NEAR]],
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def place(told: ExplainedFacility) -> tuple[str, UUID]:
    """Facilities are listed by name."""
    return told.facility.name, told.facility.id


def a_facility(told: ExplainedFacility) -> pb.ExplainedFacility:
    return pb.ExplainedFacility(
        facility_id=str(told.facility.id),
        facility_name=told.facility.name,
        level=answers.LEVEL_VALUES[told.level],
        cases=told.counted.cases,
        shown=told.counted.shown,
        hidden_by_filter=told.hidden_by_filter,
        has_more=told.counted.has_more,
    )


def _a_path(told: ExplainedPath) -> pb.ExplainedPath:
    names = [folder.name for folder in told.folders if folder.name][:MAX_FOLDERS]
    return pb.ExplainedPath(
        path=answers.PATH_VALUES[told.path],
        reason=REASON_VALUES[told.reason],
        ends_at=timestamp(told.ends_at),
        folder_names=names,
        folders_left_out=len(told.folders) - len(names),
        may_write=told.may_write,
    )
