"""AccessService: an explanation, domain to proto."""

from dataclasses import replace
from uuid import UUID

from plumbing.timestamps import timestamp
from services.access import answers
from services.access.administration import HeldPrivilege
from services.access.contact import NO_CONTACT
from services.access.domain import Permission
from services.access.explain import ExplainedFacility, ExplainedPath, Explanation, Obstacle, Reason
from wire.access.v1 import access_pb2 as pb

MAX_FOLDERS = 20
"""As many as a help desk reads aloud."""

OBSTACLE_VALUES = {each: pb.Explanation.Obstacle.Value(f"OBSTACLE_{each.name}") for each in Obstacle}
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
    )


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
