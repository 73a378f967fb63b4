"""RoutingService: proto to domain and back."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import grpc

from kernel.errors import Invalid
from kernel.ids import CaseId, FacilityId, MoveId, RuleId, StudyId, parse_id
from plumbing import pages
from plumbing.callers import acting_login
from plumbing.rpc import Server
from plumbing.timestamps import timestamp
from services.routing.domain import (
    EndpointRule,
    Facility,
    FacilitySettings,
    Model,
    PlacedStudy,
    Placement,
    Reason,
    fold,
    literal_wildcards,
)
from services.routing.heldparts import HeldParts, Verdicts
from services.routing.moves import Ending, Moves
from services.routing.parts import HELD_SENTENCES, Held, HeldKind
from services.routing.placements import Placements
from services.routing.reevaluation import Change, Reevaluation
from services.routing.usecases import Facilities, Rules
from wire.routing.v1 import routing_pb2 as pb
from wire.routing.v1 import routing_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

MODEL_VALUES = {model: pb.TransmissionModel.Value(f"TRANSMISSION_MODEL_{model.name}") for model in Model}
MODELS: dict[int, Model] = {value: model for model, value in MODEL_VALUES.items()}
REASON_VALUES = {reason: pb.PlacementReason.Value(f"PLACEMENT_REASON_{reason.name}") for reason in Reason}
HELD_KIND_VALUES = {kind: pb.Held.Kind.Value(f"KIND_{kind.name}") for kind in HeldKind}


@dataclass(frozen=True, slots=True)
class RoutingApi(routing_pb2_grpc.RoutingServiceServicer):
    """The servicer."""

    facilities: Facilities
    rules: Rules
    placements: Placements
    held_parts: HeldParts
    moves: Moves
    reevaluation: Reevaluation

    async def SaveFacility(  # noqa: N802
        self, request: pb.SaveFacilityRequest, context: Context
    ) -> pb.SaveFacilityResponse:
        given = request.facility
        facility_id = FacilityId(parse_id(given.facility_id, "facility_id")) if given.facility_id else None
        if given.model not in {pb.TRANSMISSION_MODEL_UNSPECIFIED, *MODELS}:
            raise Invalid("`model` must be standard, hub or endpoint", field="model")
        wanted = FacilitySettings(
            given.name, given.time_zone or None, MODELS.get(given.model), given.mapping_tag or None
        )
        facility = await self.facilities.save_facility(acting_login(), facility_id, wanted, given.version)
        return pb.SaveFacilityResponse(facility=_facility(facility))

    async def ListFacilities(  # noqa: N802
        self, request: pb.ListFacilitiesRequest, context: Context
    ) -> pb.ListFacilitiesResponse:
        asked = pages.asked(request, tuple[str, UUID])
        found = await self.facilities.list_facilities(acting_login(), asked.after, asked.limit)
        page, token = asked.rows(found, lambda last: (fold(last.name), last.id), _facility)
        return pb.ListFacilitiesResponse(facilities=page, next_page_token=token)

    async def DescribeFacility(  # noqa: N802
        self, request: pb.DescribeFacilityRequest, context: Context
    ) -> pb.DescribeFacilityResponse:
        facility = await self.facilities.describe_facility(
            FacilityId(parse_id(request.facility_id, "facility_id"))
        )
        return pb.DescribeFacilityResponse(facility=_facility(facility))

    async def SaveRule(self, request: pb.SaveRuleRequest, context: Context) -> pb.SaveRuleResponse:  # noqa: N802
        given = request.rule
        if given.rule_id:
            raise Invalid("a rule never changes: remove it and create another (`rule_id`)", field="rule_id")
        rule = await self.rules.save_rule(
            acting_login(),
            FacilityId(parse_id(given.endpoint_facility_id, "endpoint_facility_id")),
            FacilityId(parse_id(given.hub_facility_id, "hub_facility_id")),
            given.text,
        )
        return pb.SaveRuleResponse(rule=_rule(rule), note=literal_wildcards(rule.text))

    async def ListRules(self, request: pb.ListRulesRequest, context: Context) -> pb.ListRulesResponse:  # noqa: N802
        asked = pages.asked(request, tuple[str, UUID])
        facility_id = FacilityId(parse_id(request.facility_id, "facility_id"))
        found = await self.rules.list_rules(acting_login(), facility_id, asked.after, asked.limit)
        page, token = asked.rows(found, lambda last: (fold(last.text), last.id), _rule)
        return pb.ListRulesResponse(rules=page, next_page_token=token)

    async def RemoveRule(self, request: pb.RemoveRuleRequest, context: Context) -> pb.RemoveRuleResponse:  # noqa: N802
        await self.rules.remove_rule(acting_login(), RuleId(parse_id(request.rule_id, "rule_id")))
        return pb.RemoveRuleResponse()

    async def DescribePlacement(  # noqa: N802
        self, request: pb.DescribePlacementRequest, context: Context
    ) -> pb.DescribePlacementResponse:
        placement = await self.placements.describe_placement(CaseId(parse_id(request.case_id, "case_id")))
        return pb.DescribePlacementResponse(placement=_placement(placement))

    async def DescribePurge(  # noqa: N802
        self, request: pb.DescribePurgeRequest, context: Context
    ) -> pb.DescribePurgeResponse:
        study_ids = await self.placements.describe_purge(CaseId(parse_id(request.case_id, "case_id")))
        return pb.DescribePurgeResponse(study_ids=map(str, study_ids))

    async def ListVersions(  # noqa: N802
        self, request: pb.ListVersionsRequest, context: Context
    ) -> pb.ListVersionsResponse:
        listing = {
            pb.ListVersionsRequest.KIND_FACILITY: self.facilities.list_versions,
            pb.ListVersionsRequest.KIND_PLACEMENT: self.placements.list_versions,
        }.get(request.kind)
        if listing is None:
            raise Invalid("`kind` must be facility or placement", field="kind")
        after = parse_id(request.after_id, "after_id") if request.after_id else UUID(int=0)
        return pb.ListVersionsResponse(
            versions=[
                pb.ListVersionsResponse.Version(id=str(each), version=version)
                for each, version in await listing(after)
            ]
        )

    async def ListHeld(self, request: pb.ListHeldRequest, context: Context) -> pb.ListHeldResponse:  # noqa: N802
        asked = pages.asked(request, UUID)
        found = await self.held_parts.list_held(acting_login(), asked.after, asked.limit)
        page, token = asked.rows(found, lambda last: last.id, _held)
        return pb.ListHeldResponse(held=page, next_page_token=token)

    async def ListUndecided(  # noqa: N802
        self, request: pb.ListUndecidedRequest, context: Context
    ) -> pb.ListUndecidedResponse:
        count, parts = await self.held_parts.list_undecided(CaseId(parse_id(request.case_id, "case_id")))
        named = [pb.ListUndecidedResponse.Part(study_id=str(study_id), part=part) for study_id, part in parts]
        return pb.ListUndecidedResponse(parts=named, count=count)

    async def CheckHeld(self, request: pb.CheckHeldRequest, context: Context) -> pb.CheckHeldResponse:  # noqa: N802
        asked = [(StudyId(parse_id(each.study_id, "parts.study_id")), each.part) for each in request.parts]
        waiting = await self.held_parts.check_held(asked)
        return pb.CheckHeldResponse(
            parts=[pb.PartName(study_id=str(study_id), part=part) for study_id, part in waiting]
        )

    async def ReleasePart(  # noqa: N802
        self, request: pb.ReleasePartRequest, context: Context
    ) -> pb.ReleasePartResponse:
        held_id = parse_id(request.held_id, "held_id")
        said = await self.held_parts.release_part(acting_login(), held_id, preview=request.preview)
        return pb.ReleasePartResponse(**_verdicts(said))

    async def DiscardPart(  # noqa: N802
        self, request: pb.DiscardPartRequest, context: Context
    ) -> pb.DiscardPartResponse:
        held_id = parse_id(request.held_id, "held_id")
        said = await self.held_parts.discard_part(acting_login(), held_id, preview=request.preview)
        return pb.DiscardPartResponse(**_verdicts(said))

    async def Distribute(self, request: pb.DistributeRequest, context: Context) -> pb.DistributeResponse:  # noqa: N802
        moved = await self.moves.distribute(
            acting_login(),
            CaseId(parse_id(request.case_id, "case_id")),
            FacilityId(parse_id(request.facility_id, "facility_id")),
            preview=request.preview,
        )
        return pb.DistributeResponse(placement=_placement(moved.placement), ending=_ending(moved.ending))

    async def MoveOn(self, request: pb.MoveOnRequest, context: Context) -> pb.MoveOnResponse:  # noqa: N802
        moved = await self.moves.move_on(
            acting_login(),
            CaseId(parse_id(request.case_id, "case_id")),
            FacilityId(parse_id(request.facility_id, "facility_id")),
            preview=request.preview,
        )
        return pb.MoveOnResponse(placement=_placement(moved.placement), ending=_ending(moved.ending))

    async def Reevaluate(self, request: pb.ReevaluateRequest, context: Context) -> pb.ReevaluateResponse:  # noqa: N802
        hub_id = FacilityId(parse_id(request.hub_facility_id, "hub_facility_id"))
        wanted = [
            Change(
                CaseId(parse_id(each.case_id, "case_id")),
                StudyId(parse_id(each.study_id, "study_id")),
                each.part,
                each.version,
                FacilityId(parse_id(each.to_facility_id, "to_facility_id")),
            )
            for each in request.changes
        ]
        after = None if wanted else pages.after(request.page_token, UUID)
        changes, last = await self.reevaluation.reevaluate(acting_login(), hub_id, wanted, after)
        return pb.ReevaluateResponse(
            changes=map(_change, changes), next_page_token=pages.token(last) if last else ""
        )

    async def SuggestRules(  # noqa: N802
        self, request: pb.SuggestRulesRequest, context: Context
    ) -> pb.SuggestRulesResponse:
        hub_id = FacilityId(parse_id(request.hub_facility_id, "hub_facility_id"))
        found = await self.rules.suggest_rules(acting_login(), hub_id, request.mapping_values)
        return pb.SuggestRulesResponse(
            suggestions=[
                pb.SuggestRulesResponse.Suggestion(rule=_rule(each.rule), is_exact=each.is_exact)
                if each
                else pb.SuggestRulesResponse.Suggestion()
                for each in found
            ]
        )

    async def EndMove(self, request: pb.EndMoveRequest, context: Context) -> pb.EndMoveResponse:  # noqa: N802
        return pb.EndMoveResponse(
            made=await self.moves.end_move(MoveId(parse_id(request.move_id, "move_id")))
        )


def serve(server: Server, api: RoutingApi) -> None:
    """Adds RoutingService to a server."""
    server.add(
        routing_pb2_grpc.add_RoutingServiceServicer_to_server,
        api,
        pb.DESCRIPTOR.services_by_name["RoutingService"].full_name,
    )


def _facility(facility: Facility) -> pb.Facility:
    return pb.Facility(
        facility_id=str(facility.id),
        name=facility.name,
        time_zone=facility.time_zone,
        model=MODEL_VALUES[facility.model],
        mapping_tag=facility.mapping_tag or "",
        version=facility.version,
    )


def _rule(rule: EndpointRule) -> pb.EndpointRule:
    return pb.EndpointRule(
        rule_id=str(rule.id),
        endpoint_facility_id=str(rule.endpoint_facility_id),
        hub_facility_id=str(rule.hub_facility_id),
        text=rule.text,
    )


def _placement(placement: Placement) -> pb.Placement:
    return pb.Placement(
        case_id=str(placement.case_id),
        facility_id=str(placement.facility_id),
        received_via_facility_id=str(placement.received_via_facility_id or ""),
        study_instance_uid=placement.study_instance_uid,
        reason=REASON_VALUES[placement.reason],
        undistributed=placement.undistributed,
        studies=map(_placed_study, placement.studies),
        placed_at=timestamp(placement.placed_at),
        version=placement.version,
        another_patient_held=placement.another_patient_held,
        written_differently=placement.written_differently,
        last_move_id=str(placement.last_move_id or ""),
    )


def _ending(ending: Ending) -> pb.Ending:
    return pb.Ending(
        grant_count=ending.grant_count,
        folder_count=ending.folder_count,
        grant_logins=ending.grant_logins,
        folder_names=ending.folder_names,
    )


def _placed_study(study: PlacedStudy) -> pb.PlacedStudy:
    return pb.PlacedStudy(
        study_id=str(study.id),
        all_series=study.all_series,
        series_instance_uids=study.series_instance_uids,
        by_parts=study.parts is not None,
        parts=study.parts or (),
    )


def _verdicts(said: Verdicts) -> dict[str, Any]:
    return {"case_id": str(said.case_id), "study_id": str(said.study_id), "parts": said.parts}


def _change(change: Change) -> pb.Change:
    return pb.Change(
        case_id=str(change.case_id),
        study_id=str(change.study_id),
        part=change.part,
        version=change.version,
        to_facility_id=str(change.to_facility_id),
        why_not=change.why_not,
    )


def _held(held: Held) -> pb.Held:
    return pb.Held(
        kind=HELD_KIND_VALUES[held.kind],
        case_id=str(held.case_id or ""),
        study_id=str(held.study_id),
        series_instance_uid=held.series_instance_uid or "",
        facility_id=str(held.facility_id),
        reason=HELD_SENTENCES[held.reason],
        held_at=timestamp(held.held_at),
        held_id=str(held.id),
        part=held.part,
        instance_count=held.instance_count,
        differs=held.differs,
        facility_name=held.facility_name,
    )
