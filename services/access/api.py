"""AccessService: proto to domain; back again with `answers.py`."""

from collections.abc import Collection
from typing import Any
from uuid import UUID

import grpc

from kernel.ids import CaseId, DeletionId, FacilityId, FolderId, UserId, parse_id
from kernel.language import Language
from kernel.reading import PrivilegeLevel, ReadType
from plumbing import pages
from plumbing.callers import acting_login, acting_session, caller
from plumbing.rpc import Server
from services.access import answers, explained, linted, search
from services.access.accessfilter import Historical
from services.access.administration import Users
from services.access.answers import (
    HISTORICAL_VALUES,
    LANGUAGE_VALUES,
    LEVEL_VALUES,
    READ_TYPE_VALUES,
    ROLE_VALUES,
    SIDE_VALUES,
)
from services.access.asked import bucket_id as _bucket_id
from services.access.asked import case_id as _case_id
from services.access.asked import day as _date
from services.access.asked import either as _either
from services.access.asked import facility_id as _facility_id
from services.access.asked import folder as _folder
from services.access.asked import form as _form
from services.access.asked import listing as _listing
from services.access.asked import move as _move
from services.access.asked import one_of as _one_of
from services.access.asked import permission as _permission
from services.access.asked import share as _share
from services.access.asked import skipped as _skipped
from services.access.asked import standing as _standing
from services.access.asked import user as _user
from services.access.asked import user_id as _user_id
from services.access.assignment import Assignments
from services.access.caseindex import Priority
from services.access.contact import unreachable
from services.access.deletion import Deletions
from services.access.domain import Role
from services.access.explaining import Explaining
from services.access.filtering import Filters, FilterSettings
from services.access.folders import Folders, Place
from services.access.granting import Buckets
from services.access.linking import Linking
from services.access.linting import Draft, Linting
from services.access.listed import ListedCases, Parts
from services.access.moves import Moves
from services.access.patients import LinkId
from services.access.places import PlaceTokens
from services.access.preparing import Preparing
from services.access.privileges import checked_privilege
from services.access.revision import RevisionTokens
from services.access.shown import columns_of
from services.access.telling import Telling, Told
from services.access.usecases import Questions
from wire.access.v1 import access_pb2 as pb
from wire.access.v1 import access_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

DEFAULT_WORKLIST_PAGE_SIZE = 50
DEFAULT_FACILITIES, MAX_FACILITIES = 20, 50
"""Of each up to 10,000 cases are counted."""
DEFAULT_ASSIGNABLE, MAX_ASSIGNABLE = 50, 100
"""Each is compiled, and asks some statements."""

ROLES: dict[int, Role] = {value: role for role, value in ROLE_VALUES.items()}
READ_TYPES: dict[int, ReadType] = {value: read_type for read_type, value in READ_TYPE_VALUES.items()}
LEVELS: dict[int, PrivilegeLevel] = {value: level for level, value in LEVEL_VALUES.items()}
HISTORICALS: dict[int, Historical] = {value: historical for historical, value in HISTORICAL_VALUES.items()}
PRIORITIES: dict[int, Priority] = {value: priority for priority, value in answers.PRIORITY_VALUES.items()}
ORDERS: dict[int, search.Order] = {value: order for order, value in answers.ORDER_VALUES.items()}
LANGUAGES: dict[int, Language | None] = {value: language for language, value in LANGUAGE_VALUES.items()}


class AccessApi(access_pb2_grpc.AccessServiceServicer):
    """The servicer."""

    def __init__(
        self,
        questions: Questions,
        users: Users,
        filters: Filters,
        folders: Folders,
        buckets: Buckets,
        deletions: Deletions,
        moves: Moves,
        assignments: Assignments,
        explaining: Explaining,
        linking: Linking,
        linting: Linting,
        preparing: Preparing,
        revisions: RevisionTokens,
        places: PlaceTokens,
        telling: Telling,
        listed: ListedCases,
        text_countries: Collection[str],
    ) -> None:
        self._questions = questions
        self._users = users
        self._filters = filters
        self._folders = folders
        self._buckets = buckets
        self._deletions = deletions
        self._moves = moves
        self._assignments = assignments
        self._explaining = explaining
        self._linking = linking
        self._linting = linting
        self._preparing = preparing
        self._revisions, self._telling, self._listed = revisions, telling, listed
        self._places = places
        self._text_countries = text_countries

    # Users and privileges

    async def SaveUser(self, request: pb.SaveUserRequest, context: Context) -> pb.SaveUserResponse:  # noqa: N802
        settings = _user(request, ROLES, LANGUAGES)
        user, revision = await self._users.save_user(acting_login(), settings)
        return pb.SaveUserResponse(
            user=answers.a_user(user),
            revision=self._revisions.token(revision),
            warnings=unreachable(user.contact, self._text_countries),
        )

    async def ListUsers(self, request: pb.ListUsersRequest, context: Context) -> pb.ListUsersResponse:  # noqa: N802
        limit = pages.size(request.page_size)
        after = pages.after(request.page_token, str) or ""
        found = await self._users.list_users(acting_login(), after, limit + 1)
        page, token = pages.fit(found, limit, lambda last: last.login, answers.a_user)
        return pb.ListUsersResponse(users=page, next_page_token=token)

    async def SavePrivilege(  # noqa: N802
        self, request: pb.SavePrivilegeRequest, context: Context
    ) -> pb.SavePrivilegeResponse:
        given = request.privilege
        privilege = checked_privilege(
            _one_of(LEVELS, given.level, "level"),
            _date(given.expires_on, "expires_on") if given.expires_on else None,
            frozenset(_one_of(READ_TYPES, value, "read_types") for value in given.read_types),
            given.version,
        )
        held, revision = await self._users.save_privilege(
            acting_login(),
            _user_id(given.user_id),
            FacilityId(parse_id(given.facility_id, "facility_id")),
            privilege,
        )
        return pb.SavePrivilegeResponse(
            privilege=answers.a_privilege(held), revision=self._revisions.token(revision)
        )

    async def ListPrivileges(  # noqa: N802
        self, request: pb.ListPrivilegesRequest, context: Context
    ) -> pb.ListPrivilegesResponse:
        after = pages.after(request.page_token, tuple[str, str])
        held = await self._users.list_privileges(acting_login(), _user_id(request.user_id))
        held = sorted(
            (each for each in held if after is None or answers.place(each) > after), key=answers.place
        )
        limit = pages.size(request.page_size, default=len(held))
        page, token = pages.fit(held, limit, answers.place, answers.a_privilege)
        return pb.ListPrivilegesResponse(privileges=page, next_page_token=token)

    # Filters

    async def SaveFilter(self, request: pb.SaveFilterRequest, context: Context) -> pb.SaveFilterResponse:  # noqa: N802
        given = request.filter
        settings = FilterSettings(
            user_id=_user_id(given.user_id),
            form=_form(given.form),
            expression=given.expression,
            historical=_one_of(HISTORICALS, given.historical, "historical"),
            version=given.version,
        )
        saved, revision = await self._filters.save_filter(acting_login(), settings)
        answer = pb.SaveFilterResponse(
            filter=answers.a_filter(saved), revision=self._revisions.token(revision)
        )
        return answers.in_one_message(answer, "name fewer facilities")

    async def DescribeFilter(  # noqa: N802
        self, request: pb.DescribeFilterRequest, context: Context
    ) -> pb.DescribeFilterResponse:
        user_id = _user_id(request.user_id)
        described = await self._filters.describe_filter(acting_login(), user_id)
        answer = pb.DescribeFilterResponse(filter=answers.a_filter(described))
        return answers.in_one_message(answer, "the filter names too many facilities")

    async def ListFilters(self, request: pb.ListFiltersRequest, context: Context) -> pb.ListFiltersResponse:  # noqa: N802
        limit = pages.size(request.page_size)
        after = pages.after(request.page_token, str) or ""
        found = await self._filters.list_filters(acting_login(), after, limit + 1)
        page, token = pages.fit(found, limit, lambda last: last.login, answers.a_filtered_user)
        return pb.ListFiltersResponse(filters=page, next_page_token=token)

    # Folders and grants

    async def SaveFolder(self, request: pb.SaveFolderRequest, context: Context) -> pb.SaveFolderResponse:  # noqa: N802
        folder, revision = await self._folders.save_folder(acting_login(), _folder(request.folder))
        return pb.SaveFolderResponse(
            folder=answers.a_folder(folder), revision=self._revisions.token(revision)
        )

    async def ListFolders(self, request: pb.ListFoldersRequest, context: Context) -> pb.ListFoldersResponse:  # noqa: N802
        limit = pages.size(request.page_size)
        after = pages.after(request.page_token, str) or ""
        found = await self._folders.list_folders(acting_login(), after, limit + 1)
        page, token = pages.fit(found, limit, lambda last: last.folded_name, answers.a_folder)
        return pb.ListFoldersResponse(folders=page, next_page_token=token)

    async def PutInFolder(self, request: pb.PutInFolderRequest, context: Context) -> pb.PutInFolderResponse:  # noqa: N802
        revision = await self._folders.put_in_folder(
            acting_login(), FolderId(parse_id(request.folder_id, "folder_id")), _case_id(request.case_id)
        )
        return pb.PutInFolderResponse(revision=self._revisions.token(revision))

    async def RemoveFromFolder(  # noqa: N802
        self, request: pb.RemoveFromFolderRequest, context: Context
    ) -> pb.RemoveFromFolderResponse:
        revision = await self._folders.remove_from_folder(
            acting_login(), FolderId(parse_id(request.folder_id, "folder_id")), _case_id(request.case_id)
        )
        return pb.RemoveFromFolderResponse(revision=self._revisions.token(revision))

    async def ListFolderCases(  # noqa: N802
        self, request: pb.ListFolderCasesRequest, context: Context
    ) -> pb.ListFolderCasesResponse:
        after = pages.after(request.page_token, Place)
        folder_id = request.folder_id and FolderId(parse_id(request.folder_id, "folder_id"))
        case_id = request.case_id and _case_id(request.case_id)
        limit = pages.size(request.page_size)
        found = await self._folders.list_folder_cases(
            acting_login(),
            _either(folder_id, case_id, "folder_id"),
            by_case=bool(case_id),
            after=after,
            limit=limit + 1,
        )
        page, token = pages.fit(found, limit, lambda last: last.place, answers.a_folder_case)
        return pb.ListFolderCasesResponse(folder_cases=page, next_page_token=token)

    async def GrantCase(self, request: pb.GrantCaseRequest, context: Context) -> pb.GrantCaseResponse:  # noqa: N802
        revision = await self._folders.grant_case(
            acting_login(), _case_id(request.case_id), _user_id(request.user_id)
        )
        return pb.GrantCaseResponse(revision=self._revisions.token(revision))

    async def RevokeGrant(self, request: pb.RevokeGrantRequest, context: Context) -> pb.RevokeGrantResponse:  # noqa: N802
        revision = await self._folders.revoke_grant(
            acting_login(), _case_id(request.case_id), _user_id(request.user_id)
        )
        return pb.RevokeGrantResponse(revision=self._revisions.token(revision))

    async def LinkPatients(  # noqa: N802
        self, request: pb.LinkPatientsRequest, context: Context
    ) -> pb.LinkPatientsResponse:
        linked, revision = await self._linking.link_patients(
            acting_login(),
            acting_session(),
            _case_id(request.case_id),
            CaseId(parse_id(request.other_case_id, "other_case_id")),
            preview=request.preview,
        )
        return answers.linked_patients(linked, "" if revision is None else self._revisions.token(revision))

    async def UnlinkPatients(  # noqa: N802
        self, request: pb.UnlinkPatientsRequest, context: Context
    ) -> pb.UnlinkPatientsResponse:
        records, revision = await self._linking.unlink_patients(
            acting_login(), LinkId(parse_id(request.link_id, "link_id"))
        )
        return pb.UnlinkPatientsResponse(
            records=map(answers.a_patient_record, records), revision=self._revisions.token(revision)
        )

    async def DescribePatient(  # noqa: N802
        self, request: pb.DescribePatientRequest, context: Context
    ) -> pb.DescribePatientResponse:
        known = await self._linking.describe_patient(
            acting_login(), acting_session(), _case_id(request.case_id)
        )
        return answers.a_patient(known)

    async def ListGrants(self, request: pb.ListGrantsRequest, context: Context) -> pb.ListGrantsResponse:  # noqa: N802
        after = pages.after(request.page_token, Place)
        case_id = request.case_id and _case_id(request.case_id)
        user_id = request.user_id and _user_id(request.user_id)
        limit = pages.size(request.page_size)
        found = await self._folders.list_grants(
            acting_login(),
            _either(user_id, case_id, "user_id"),
            by_case=bool(case_id),
            after=after,
            limit=limit + 1,
        )
        page, token = pages.fit(found, limit, lambda last: last.place, answers.a_case_grant)
        return pb.ListGrantsResponse(grants=page, next_page_token=token)

    # Sight

    async def Check(self, request: pb.CheckRequest, context: Context) -> pb.CheckResponse:  # noqa: N802
        decision, revision = await self._questions.check(
            acting_login(),
            _case_id(request.case_id),
            images=request.images,
            late_images=request.images_since_report,
            session=acting_session(),
            at_least=self._revisions.at_least(request.at_least_revision),
        )
        answer = pb.CheckResponse(
            decision=answers.a_decision(decision), revision=self._revisions.token(revision)
        )
        return answers.in_one_message(answer, "the case has too many series") if decision.studies else answer

    async def CheckAgain(  # noqa: N802
        self, request: pb.CheckAgainRequest, context: Context
    ) -> pb.CheckAgainResponse:
        decision = await self._questions.check_again(
            request.login, request.session, _case_id(request.case_id)
        )
        answer = pb.CheckAgainResponse(studies=answers.a_decision(decision).studies)
        return answers.in_one_message(answer, "the case has too many series")

    async def CheckMany(self, request: pb.CheckManyRequest, context: Context) -> pb.CheckManyResponse:  # noqa: N802
        case_ids = [CaseId(parse_id(each, "case_ids")) for each in request.case_ids]
        decisions = await self._questions.check_many(
            acting_login(),
            case_ids,
            at_least=self._revisions.at_least(request.at_least_revision),
            session=acting_session(),
        )
        # Most of them are one and the same few decisions.
        made = {
            id(each): answers.a_decision(each) for each in {id(each): each for each in decisions}.values()
        }
        return pb.CheckManyResponse(decisions=[made[id(each)] for each in decisions])

    async def CheckPermission(  # noqa: N802
        self, request: pb.CheckPermissionRequest, context: Context
    ) -> pb.CheckPermissionResponse:
        allowed, singly, side, sees_cases = await self._questions.check_permission(
            acting_login(),
            _permission(request.permission),
            _facility_id(request.facility_id, "facility_id"),
            at_least=self._revisions.at_least(request.at_least_revision),
        )
        return pb.CheckPermissionResponse(
            allowed=allowed,
            facility_ids=sorted(map(str, singly)),
            side=SIDE_VALUES[side],
            sees_cases=sees_cases,
        )

    async def ListCases(self, request: pb.ListCasesRequest, context: Context) -> pb.ListCasesResponse:  # noqa: N802
        limit = pages.size(request.page_size, DEFAULT_WORKLIST_PAGE_SIZE)
        login, asked = acting_login(), _listing(request, ORDERS)
        columns = columns_of(request.columns)
        place = self._places.place(request.page_token, login, asked)
        page = await self._questions.list_cases(
            login,
            place,
            limit,
            asked,
            columns,
            skip=_skipped(request.skip),
            session=acting_session(),
            at_least=self._revisions.at_least(request.at_least_revision),
        )

        def token(beside: search.Place) -> str:
            return self._places.token(beside, login, asked)

        return answers.a_page(page, place, token, columns)

    async def CountCases(self, request: pb.CountCasesRequest, context: Context) -> pb.CountCasesResponse:  # noqa: N802
        return await self._listed.count_cases(request)

    async def DescribeCase(  # noqa: N802
        self, request: pb.DescribeCaseRequest, context: Context
    ) -> pb.DescribeCaseResponse:
        return await self._listed.describe_case(request)

    async def ListRelatedCases(  # noqa: N802
        self, request: pb.ListRelatedCasesRequest, context: Context
    ) -> pb.ListRelatedCasesResponse:
        return await self._listed.list_related_cases(request)

    def ExportCases(self, request: pb.ExportCasesRequest, context: Context) -> Parts:  # noqa: N802
        return self._listed.export_cases(request)

    def WatchCases(self, request: pb.WatchCasesRequest, context: Context) -> Told:  # noqa: N802
        return self._telling.watch_cases(request)

    async def ReadSearch(self, request: pb.ReadSearchRequest, context: Context) -> pb.ReadSearchResponse:  # noqa: N802
        return pb.ReadSearchResponse(
            expression=await self._questions.read_search(acting_login(), request.search)
        )

    async def Explain(self, request: pb.ExplainRequest, context: Context) -> pb.ExplainResponse:  # noqa: N802
        explanation = await self._explaining.explain(
            acting_login(), _user_id(request.user_id), _case_id(request.case_id)
        )
        return pb.ExplainResponse(explanation=explained.an_explanation(explanation))

    async def ExplainList(self, request: pb.ExplainListRequest, context: Context) -> pb.ExplainListResponse:  # noqa: N802
        asked = pages.asked(request, tuple[str, UUID], default=DEFAULT_FACILITIES, most=MAX_FACILITIES)
        found = await self._explaining.explain_list(
            acting_login(), _user_id(request.user_id), asked.after, asked.limit
        )
        page, token = asked.rows(found, explained.place, explained.a_facility)
        return pb.ExplainListResponse(facilities=page, next_page_token=token)

    async def Lint(self, request: pb.LintRequest, context: Context) -> pb.LintResponse:  # noqa: N802
        user_id = _user_id(request.user_id) if request.user_id else None
        draft = Draft(user_id, _form(request.form), request.expression)
        found = await self._linting.lint(acting_login(), acting_session(), draft)
        return linted.a_lint(found, request.expression)

    # Assignments

    async def ListAssignable(  # noqa: N802
        self, request: pb.ListAssignableRequest, context: Context
    ) -> pb.ListAssignableResponse:
        page = pages.asked(request, str, default=DEFAULT_ASSIGNABLE, most=MAX_ASSIGNABLE)
        found = await self._assignments.list_assignable(
            acting_login(), acting_session(), _case_id(request.case_id), page.after or "", page.limit
        )
        users, token = page.rows(found, lambda last: last.user.login, answers.an_assignable)
        return pb.ListAssignableResponse(users=users, next_page_token=token)

    async def Assign(self, request: pb.AssignRequest, context: Context) -> pb.AssignResponse:  # noqa: N802
        assigned, revision = await self._assignments.assign(
            acting_login(),
            acting_session(),
            _case_id(request.case_id),
            request.assignee_login,
            force=request.force,
        )
        return pb.AssignResponse(
            assignee_login=assigned.assignee_login,
            assignee_level=LEVEL_VALUES[assigned.level],
            revision=self._revisions.token(revision),
        )

    async def Unassign(self, request: pb.UnassignRequest, context: Context) -> pb.UnassignResponse:  # noqa: N802
        revision = await self._assignments.unassign(
            acting_login(), acting_session(), _case_id(request.case_id), force=request.force
        )
        return pb.UnassignResponse(revision=self._revisions.token(revision))

    async def SetPriority(  # noqa: N802
        self, request: pb.SetPriorityRequest, context: Context
    ) -> pb.SetPriorityResponse:
        revision = await self._assignments.set_priority(
            acting_login(),
            acting_session(),
            _case_id(request.case_id),
            _one_of(PRIORITIES, request.priority, "priority"),
        )
        return pb.SetPriorityResponse(revision=self._revisions.token(revision))

    # Deletion and moves

    async def BeginDelete(self, request: pb.BeginDeleteRequest, context: Context) -> pb.BeginDeleteResponse:  # noqa: N802
        case_id = _case_id(request.case_id)
        deletion_id = DeletionId(parse_id(request.deletion_id, "deletion_id"))
        by = caller()
        if by.login is None:
            deletion, revision = await self._deletions.begun(case_id, deletion_id)
        else:
            deletion, revision = await self._deletions.begin_delete(
                by.login, by.session or "", case_id, deletion_id, force=request.force
            )
        return pb.BeginDeleteResponse(
            study_ids=map(str, deletion.study_ids),
            facility_id=str(deletion.facility_id),
            revision=self._revisions.token(revision),
        )

    async def BeginMove(self, request: pb.BeginMoveRequest, context: Context) -> pb.BeginMoveResponse:  # noqa: N802
        move, by = _move(request), caller()
        if by.login is None:
            ending = await self._moves.begin_move(move, preview=request.preview)
        else:
            ending = await self._moves.begin_for(by.login, move, preview=request.preview)
        return pb.BeginMoveResponse(
            grant_count=ending.grant_count,
            folder_count=ending.folder_count,
            grant_logins=ending.grant_logins,
            folder_names=ending.folder_names,
        )

    async def CheckDeletion(  # noqa: N802
        self, request: pb.CheckDeletionRequest, context: Context
    ) -> pb.CheckDeletionResponse:
        return pb.CheckDeletionResponse(begun=await self._deletions.check_deletion(_case_id(request.case_id)))

    # What sharing and notify ask

    async def PrepareGrant(  # noqa: N802
        self, request: pb.PrepareGrantRequest, context: Context
    ) -> pb.PrepareGrantResponse:
        case_ids = [CaseId(parse_id(each, "case_ids")) for each in request.case_ids]
        prepared = await self._preparing.prepare_grant(
            acting_login(), acting_session(), case_ids, request.logins
        )
        answer = pb.PrepareGrantResponse(
            decisions=map(answers.a_decision, prepared.decisions),
            may_share=prepared.may_share,
            cases=map(answers.a_case_summary, prepared.cases),
            users=map(answers.a_user, prepared.users),
        )
        return answers.in_one_message(answer, "name fewer users")

    async def GrantBuckets(  # noqa: N802
        self, request: pb.GrantBucketsRequest, context: Context
    ) -> pb.GrantBucketsResponse:
        facility_id, revision = await self._buckets.grant_buckets(
            acting_login(), acting_session(), _share(request)
        )
        return pb.GrantBucketsResponse(revision=self._revisions.token(revision), facility_id=str(facility_id))

    async def ChangeBuckets(  # noqa: N802
        self, request: pb.ChangeBucketsRequest, context: Context
    ) -> pb.ChangeBucketsResponse:
        revision = await self._buckets.change_buckets(list(map(_standing, request.changes)))
        return pb.ChangeBucketsResponse(revision=self._revisions.token(revision))

    async def ExtendBucket(  # noqa: N802
        self, request: pb.ExtendBucketRequest, context: Context
    ) -> pb.ExtendBucketResponse:
        revision = await self._buckets.extend_bucket(
            acting_login(), acting_session(), _standing(request.change)
        )
        return pb.ExtendBucketResponse(revision=self._revisions.token(revision))

    async def RegisterSession(  # noqa: N802
        self, request: pb.RegisterSessionRequest, context: Context
    ) -> pb.RegisterSessionResponse:
        revision, shown = await self._preparing.register_session(
            _bucket_id(request.bucket_id), request.session, request.contact_version
        )
        return pb.RegisterSessionResponse(
            revision=self._revisions.token(revision),
            shown=None if shown is None else pb.RegisterSessionResponse.Shown(case_ids=map(str, shown)),
        )

    async def DescribeUsers(  # noqa: N802
        self, request: pb.DescribeUsersRequest, context: Context
    ) -> pb.DescribeUsersResponse:
        user_ids = [UserId(parse_id(each, "user_ids")) for each in request.user_ids]
        users, privileges = await self._users.describe_users(user_ids, request.logins)
        answer = pb.DescribeUsersResponse(
            users=map(answers.a_user, users),
            privileges=[answers.a_privilege(held) for held in privileges if held.expires_at],
        )
        return answers.in_one_message(answer, "ask for fewer users")

    async def DescribeCases(  # noqa: N802
        self, request: pb.DescribeCasesRequest, context: Context
    ) -> pb.DescribeCasesResponse:
        case_ids = [CaseId(parse_id(each, "case_ids")) for each in request.case_ids]
        found = await self._buckets.describe_cases(case_ids)
        return pb.DescribeCasesResponse(cases=map(answers.a_case_summary, found))

    async def ListVersions(  # noqa: N802
        self, request: pb.ListVersionsRequest, context: Context
    ) -> pb.ListVersionsResponse:
        after = request.after_user_id
        versions = await self._users.list_versions(
            UserId(parse_id(after, "after_user_id")) if after else None
        )
        return pb.ListVersionsResponse(
            versions=[
                pb.ListVersionsResponse.Version(user_id=str(user_id), version=version)
                for user_id, version in versions
            ]
        )


def serve(server: Server, access: AccessApi) -> None:
    """Adds AccessService to a server."""
    server.add(
        access_pb2_grpc.add_AccessServiceServicer_to_server,
        access,
        pb.DESCRIPTOR.services_by_name["AccessService"].full_name,
    )
