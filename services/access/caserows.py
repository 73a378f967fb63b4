# ruff: noqa: S608  statements are put together from constants, and from what the filter language compiles to
"""What lists read of their cases: the columns that are asked for and no others. And what is beside a case."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import asyncpg
import msgspec

from kernel.ids import CaseId
from kernel.reading import Side
from plumbing.db import Transaction
from services.access.caseindex import CaseSummary, ListedCase, Priority
from services.access.casequery import CaseQuery, seen_by
from services.access.domain import Answer, CompiledUser, Sighting
from services.access.reading import NOT_READ
from services.access.readingstore import PROJECTION, projection
from services.access.received import LISTED, StudyAttributes
from services.access.search import Place
from services.access.shown import ALL_COLUMNS, LOOKED_AT, MAX_PRIORS, Column, Columns
from services.access.sightings import FOUND, answer_of, sighting_of

# What a row is read from: columns of the case, and what is looked up beside it.
_FACILITY, _READING, _ASSIGNEE, _SHARES = "facility", "reading", "assignee", "shares"
_BESIDE = {
    _FACILITY: "coalesce(f.name, '') as facility_name",
    _READING: f"{PROJECTION}, r.images_since",
    _ASSIGNEE: "a.login as assignee_login",
    _SHARES: """case when sighted.by_share is not null then exists (
        select from bucket_cases h join buckets b using (bucket_id)
        where h.case_id = sighted.case_id and h.user_id = {grantee}::uuid and b.allow_further_sharing
            and b.facility_id = sighted.facility_id and {gives_sight}
    ) end as may_share_on""",
}
_STATUS = {"settled", _READING, _ASSIGNEE}
_READ: Mapping[Column, Collection[str]] = {
    **{column: {str(column)} for column in Column},
    Column.FACILITY_ID: (),
    Column.FACILITY_NAME: {_FACILITY},
    Column.RECEIVED_AT: (),
    Column.MODALITIES_IN_STUDY: {"modalities_in_study", "modalities_left_out"},
    Column.MODALITIES_LEFT_OUT: {"modalities_in_study", "modalities_left_out"},
    Column.INSTANCE_COUNT: (),
    Column.STUDY_STATUS_ID: _STATUS,
    Column.LEVEL: (),
    Column.LOCK_HOLDER_NAME: {_READING},
    Column.LOCK_ENDS_AT: {_READING},
    Column.LOCK_SINCE: {_READING},
    Column.REPORTED_READ_TYPES: {_READING},
    Column.REPORTED_AT: {_READING},
    Column.IMAGES_SINCE_REPORT: {_READING},
    Column.IMAGES_SINCE: {_READING},
    Column.ASSIGNEE_LOGIN: {_ASSIGNEE},
    Column.MAY: {_SHARES},
    Column.WAITS_FOR: {*_STATUS, "undistributed"},
    Column.WAITS_SINCE: {*_STATUS, "undistributed"},
    Column.PRIOR_COUNT: (),  # of several cases together: `priors`
}
"""What each column is read from, beside what is read of every case: who sees it how, and its receipt."""


def listed(
    cases: CaseQuery,
    page: str,
    columns: Columns = ALL_COLUMNS,
    *,
    order: str = "sighted.received_at desc, sighted.case_id desc",
    place: str = "null::text",
) -> str:
    """The statement that answers the cases of a page as the worklist shows them.

    Args:
        page: a statement of ids and places of cases that the user may see: only those that they do are told.
        columns: what is read of each.
        order: in which they are told, newest first unless said.
        place: of each case in the list, as text.
    """
    read = sorted({each for column in columns for each in _READ[column]})
    wanted = "".join(
        ", " + _BESIDE[each].format(grantee=cases.grantee, gives_sight=cases.gives_sight)
        if each in _BESIDE
        else f", sighted.{each}"
        for each in read
    )
    side = cases.value(cases.side) if {_READING, _ASSIGNEE} & {*read} else ""
    joins = {
        _FACILITY: "left join facilities f on f.facility_id = sighted.facility_id",
        _READING: f"left join readings r on r.case_id = sighted.case_id and r.side = {side}",
        _ASSIGNEE: f"left join users a on a.user_id = sighted.assignee_id and {side} = '{Side.GROUP}'",
    }
    return f"""
        with page as ({page})
        select u.version as user_version, revision.value as revision,
            {FOUND}, sighted.received_at, {place} as place{wanted}
        from users u
        cross join revision
        left join (page join {cases.sighted} using (case_id)) on {cases.shown}
        {" ".join(join for each, join in joins.items() if each in read)}
        where u.login = {cases.login}
        order by {order}
    """


def rows_of(rows: Iterable[asyncpg.Record]) -> list[tuple[ListedCase, Sighting]]:
    """What `listed` answers, row by row; what was not read of a case is empty."""
    return [
        (
            _listed_case(row),
            msgspec.structs.replace(found, may_share_on=True) if row.get("may_share_on") else found,
        )
        for row in rows
        if (found := sighting_of(row))
    ]


def _listed_case(row: asyncpg.Record) -> ListedCase:
    return ListedCase(
        case_id=row["case_id"],
        facility_id=row["facility_id"],
        facility_name=row.get("facility_name", ""),
        received_at=row["received_at"],
        study_instance_uid=row.get("study_instance_uid", ""),
        undistributed=row.get("undistributed", False),
        summary=CaseSummary(
            attributes=StudyAttributes(**{name: row.get(name, "") for name in LISTED}),
            modalities_in_study=tuple(row.get("modalities_in_study", ())),
            series_count=row.get("series_count", 0),
            instance_count=row["instance_count"],
            settled=row.get("settled", False),
            modalities_left_out=row.get("modalities_left_out", 0),
            another_patient_held=row.get("another_patient_held", 0),
            written_differently=tuple(row.get("written_differently", ())),
            calling_ae_title=row.get("calling_ae_title", ""),
            gateway_id=row.get("gateway_id"),
        ),
        reading=projection(row) if row.get("state") is not None else NOT_READ,
        images_since=row.get("images_since"),
        assignee_login=row.get("assignee_login"),
        priority=Priority(row.get("priority", Priority.NORMAL)),
        place=Place(row["place"], row["case_id"]) if row["place"] is not None else None,
    )


_IS_EARLIER = "(seen.study_day is null or seen.study_day <= asked.study_day)"
"""Whether a study counts as earlier than another (A71): the undated do, and nothing else is before them."""


class CaseRows(Transaction):
    """Reads single cases, and those beside them."""

    async def describe_case(
        self, user: CompiledUser, case_id: CaseId, columns: Columns, *, session: str = ""
    ) -> Answer[list[tuple[ListedCase, Sighting]]] | None:
        """The case as a list shows it, if the user sees it; None if the user is gone."""
        cases = seen_by(user, self.now, session)
        page = f"select {cases.value(case_id)}::uuid as case_id"
        return _answer(await self.connection.fetch(listed(cases, page, columns), *cases.parameters))

    async def list_related(
        self,
        user: CompiledUser,
        case_id: CaseId,
        place: Place | None,
        limit: int,
        columns: Columns,
        *,
        session: str = "",
    ) -> Answer[list[tuple[ListedCase, Sighting]]] | None:
        """The other cases of the patient that the user sees, the latest study first, from a place on.

        None if the user is gone. Nothing is told of the case itself, nor whether they see that.
        """
        cases = seen_by(user, self.now, session)
        its = cases.value(case_id)
        beyond = {"is not null": "", "is null": ""}
        if place:
            key, last = cases.value(place.key), cases.value(place.case_id)
            lies_beyond = (
                f"and (sighted.study_order, sighted.case_id) < ({key}::text::timestamp, {last}::uuid)"
            )
            beyond = {
                "is not null": f"{lies_beyond} and sighted.study_day <= {key}::text::timestamp::date",
                "is null": lies_beyond,
            }
        limit_ = cases.value(limit)

        def of_those(whose_day: str) -> str:
            """Those with a day, or without: an index has each in order, and ends when the page is full."""
            return f"""
                select sighted.case_id, sighted.study_order as place
                from {cases.sighted}
                where sighted.person_id = (select c.person_id from cases c where c.case_id = {its})
                    and sighted.study_day {whose_day} and sighted.case_id <> {its} and {cases.shown}
                    {beyond[whose_day]}
                order by sighted.study_day desc, sighted.study_order desc, sighted.case_id desc limit {limit_}
            """

        page = f"""
            ({of_those("is not null")}) union all ({of_those("is null")})
            order by place desc, case_id desc limit {limit_}
        """
        statement = listed(
            cases, page, columns, order="page.place desc, sighted.case_id desc", place="page.place::text"
        )
        return _answer(await self.connection.fetch(statement, *cases.parameters))

    async def count_priors(
        self, user: CompiledUser, case_ids: Sequence[CaseId], *, session: str = ""
    ) -> Answer[Mapping[CaseId, int]] | None:
        """How many other studies of its patient, that are not later, the user sees of each case.

        A case that is left out has none. The cases of a patient are looked at once, however many rows are
        theirs. None if the user is gone.
        """
        cases = seen_by(user, self.now, session)
        latest = f"""(
            select n.* from cases n where n.person_id = persons.person_id
            order by n.study_day desc limit {LOOKED_AT}
        )"""
        rows = await self.connection.fetch(
            f"""
            with asked as materialized (
                select c.case_id, c.person_id, c.study_day from cases c
                where c.case_id = any({cases.value(case_ids)}::uuid[]) and c.person_id is not null
            ), seen as materialized (
                select sighted.case_id, sighted.person_id, sighted.study_day
                from (select distinct person_id from asked) persons
                cross join lateral {cases.sighted_among(latest)}
                where {cases.shown}
            ), counted as (
                select asked.case_id, least(count(*), {MAX_PRIORS}) as priors
                from asked join seen using (person_id)
                where seen.case_id <> asked.case_id and {_IS_EARLIER}
                group by asked.case_id
            )
            select u.version as user_version, revision.value as revision, counted.case_id, counted.priors
            from users u cross join revision left join counted on true where u.login = {cases.login}
            """,
            *cases.parameters,
        )
        if not rows:
            return None
        return answer_of(rows[0], {row["case_id"]: row["priors"] for row in rows if row["case_id"]})


def _answer(rows: Sequence[asyncpg.Record]) -> Answer[list[tuple[ListedCase, Sighting]]] | None:
    return answer_of(rows[0], rows_of(rows)) if rows else None
