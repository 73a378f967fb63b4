# ruff: noqa: S608  statements are put together from constants, and from what the filter language compiles to
"""What a filter shows, for who is about to save it."""

from collections.abc import Collection, Sequence

from kernel.ids import FacilityId
from plumbing.db import Transaction
from services.access.caseindex import ListedCase
from services.access.casequery import seen_by
from services.access.caserows import listed, rows_of
from services.access.domain import CompiledUser, Sighting
from services.access.filter.fields import Field, Operator
from services.access.filter.reader import Reader
from services.access.filter.sql import to_sql
from services.access.filter.tree import Expression, Predicate
from services.access.linting import Counted

# The newest of each facility, so that no facility is left out and no index is read to its end.
_NEWEST = """(
    select c.* from cases c
    where c.facility_id = administered.facility_id and c.deletion_id is null and c.move_id is null
    order by c.received_at desc, c.case_id desc limit {limit}
) c"""


class LintStore(Transaction):
    """Tries filters on the cases of facilities that the asker administers (A73)."""

    async def try_filter(
        self,
        expression: Expression,
        reader: Reader,
        facilities: Collection[FacilityId],
        fields: Sequence[Field],
        limit: int,
    ) -> Counted:
        """What the filter shows of the newest cases, about `limit`, and how many of these have each field."""
        per_facility = _share(limit, facilities)
        parameters: list[object] = [list(facilities), per_facility]

        def counts(asked: Expression) -> str:
            condition = to_sql(asked, reader, self.now, alias="c", first_parameter=len(parameters) + 1)
            parameters.extend(condition.parameters)
            return f"count(*) filter (where {condition.text})"

        columns = [f"{counts(expression)} as shown"]
        for n, each in enumerate(fields):
            columns.append(f"{counts(Predicate(each, Operator.IS_NULL, negated=True))} as has_{n}")
        sums = "".join(f", coalesce(sum(has_{n}), 0)::bigint as has_{n}" for n in range(len(fields)))
        row = await self.connection.fetchrow(
            f"""
            select coalesce(sum(cases), 0)::bigint as cases, coalesce(sum(shown), 0)::bigint as shown,
                coalesce(bool_and(cases < $2), true) as are_all{sums}
            from unnest($1::uuid[]) as administered (facility_id)
            cross join lateral (
                select count(*) as cases, {", ".join(columns)} from {_NEWEST.format(limit="$2")}
            ) counted
            """,
            *parameters,
        )
        assert row is not None
        filled = {each.keyword: row[f"has_{n}"] for n, each in enumerate(fields)}
        return Counted(row["cases"], row["shown"], row["are_all"], filled)

    async def samples(
        self,
        user: CompiledUser,
        session: str,
        expression: Expression,
        reader: Reader,
        facilities: Collection[FacilityId],
        among: int,
        limit: int,
    ) -> Sequence[tuple[ListedCase, Sighting]]:
        """The newest of the cases that the filter shows and the user sees themself."""
        cases = seen_by(user, self.now, session)
        newest = _NEWEST.format(limit=cases.value(_share(among, facilities)))
        administered = cases.value(list(facilities))
        condition = to_sql(expression, reader, self.now, alias="c", first_parameter=len(cases.parameters) + 1)
        cases.parameters.extend(condition.parameters)
        page = f"""
            select sighted.case_id, sighted.received_at
            from (
                select c.case_id from unnest({administered}::uuid[]) as administered (facility_id)
                cross join lateral {newest} where {condition.text}
            ) found
            join {cases.sighted} using (case_id) where {cases.shown}
            order by sighted.received_at desc, sighted.case_id desc limit {cases.value(limit)}
        """
        return rows_of(await self.connection.fetch(listed(cases, page), *cases.parameters))


def _share(limit: int, facilities: Collection[FacilityId]) -> int:
    return max(1, limit // max(1, len(facilities)))
