"""What waits for a person and what they said of it: SQL beside the function that runs it."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import asyncpg

from kernel.ids import CaseId, StudyId
from kernel.reach import Reach
from plumbing.db import Transaction
from services.routing.domain import Reason, Study
from services.routing.parts import Held, HeldKind, HeldReason, Judged, Verdict, Waiting

Row = asyncpg.Record | Mapping[str, Any]

# The version before does not know this reason: another is stored, and `moved_by_hand` of the placement.
STORED: Mapping[str, str] = {Reason.RETURNED: Reason.NO_RULE, HeldReason.RETURNED: HeldReason.NO_RULE}

_HELD_PARTS = "select *, null as series_instance_uid, false as moved_by_hand from held_parts"


class HeldStore(Transaction):
    """Keeps what waits for a person."""

    async def hold(self, study: Study, case_id: CaseId | None, waiting: Sequence[Waiting]) -> None:
        """Makes these the only things of the study that wait; what waited before keeps its place."""
        # While parts wait, the series that the version before held wait for it, should it come back.
        kept = [HeldKind.SERIES] if any(each.part for each in waiting) else []
        await self._hold_study(study, case_id, [each for each in waiting if each.part is None], kept)
        await self._hold_parts(study, case_id, [each for each in waiting if each.part is not None])

    async def _hold_study(
        self, study: Study, case_id: CaseId | None, waiting: Sequence[Waiting], kept: Sequence[HeldKind]
    ) -> None:
        kinds, at = [*kept, *(each.kind for each in waiting)], study.receiving_facility_id
        await self.connection.execute(
            "delete from held where study_id = $1 and kind <> all($2::text[])", study.id, kinds
        )
        if not waiting:
            return
        await self.connection.executemany(
            """
            insert into held (held_id, study_id, kind, case_id, facility_id, reason, held_at)
            values ($1, $2, $3, $4, $5, $6, $7)
            on conflict (study_id, kind, series_instance_uid) do update
                set case_id = excluded.case_id, reason = excluded.reason
            """,
            [(self.new_id(), study.id, each.kind, case_id, at, each.reason, self.now) for each in waiting],
        )

    async def _hold_parts(self, study: Study, case_id: CaseId | None, waiting: Sequence[Waiting]) -> None:
        parts = [(each, each.part) for each in waiting if each.part]
        await self.connection.execute(
            "delete from held_parts where study_id = $1 and part <> all($2::integer[])",
            study.id,
            [part.number for _, part in parts],
        )
        if not parts:
            return
        await self.connection.execute(
            """
            insert into held_parts as held
            select held_id, $1, part, identity, kind, reason, array_remove(string_to_array(differs, ' '), ''),
                instance_count, $2, $3, $4
            from unnest($5::uuid[], $6::integer[], $7::integer[], $8::text[], $9::text[], $10::text[],
                $11::integer[]) as still (held_id, part, identity, kind, reason, differs, instance_count)
            on conflict (study_id, part) do update set kind = excluded.kind, reason = excluded.reason,
                differs = excluded.differs, instance_count = excluded.instance_count,
                case_id = excluded.case_id
            where (held.kind, held.reason, held.differs, held.instance_count, held.case_id) is distinct from
                (excluded.kind, excluded.reason, excluded.differs, excluded.instance_count, excluded.case_id)
            """,
            study.id,
            case_id,
            study.receiving_facility_id,
            self.now,
            [self.new_id() for _ in parts],
            [part.number for _, part in parts],
            [part.identity for _, part in parts],
            [each.kind for each, _ in parts],
            [each.reason for each, _ in parts],
            [" ".join(each.differs) for each, _ in parts],
            [part.instance_count for _, part in parts],
        )

    async def release_undistributed(self, case_id: CaseId) -> None:
        await self.connection.execute(
            "delete from held where case_id = $1 and kind = $2", case_id, HeldKind.UNDISTRIBUTED
        )

    async def held(self, administered: Reach, corrected: Reach, after: UUID | None, limit: int) -> list[Held]:
        """What waits where the actor administers, and parts of cases where they correct, oldest first."""
        rows = await self.connection.fetch(
            """
            select waiting.*,
                case when $1 or waiting.facility_id = any($2) then facilities.name end as facility_name
            from (
                (
                    select held_id, kind, reason, case_id, study_id, series_instance_uid, facility_id,
                        held_at, 0 as part, 0 as identity, 0 as instance_count, '{}'::text[] as differs,
                        kind = 'undistributed' and exists (
                            select from placements
                            where placements.case_id = waiting_studies.case_id and moved_by_hand
                        ) as moved_by_hand
                    from waiting_studies where ($1 or facility_id = any($2)) and held_id > $5
                    order by held_id limit $6
                )
                union all
                (
                    select held_id, kind, held.reason, case_id, study_id, null, held.facility_id, held_at,
                        part, identity, instance_count, differs, false
                    from held_parts held join placements placement using (case_id)
                    where ($1 or held.facility_id = any($2) or $3 or placement.facility_id = any($4))
                        and held_id > $5
                    order by held_id limit $6
                )
                order by held_id limit $6
            ) waiting left join facilities using (facility_id) order by held_id
            """,
            administered.everywhere,
            list(administered.facilities),
            corrected.everywhere,
            list(corrected.facilities),
            after or UUID(int=0),
            limit,
        )
        return [_held(row) for row in rows]

    async def held_counts(self) -> dict[HeldKind, int]:
        rows = await self.connection.fetch(
            """
            select kind, count(*) from waiting_studies group by kind
            union all select kind, count(*) from held_parts group by kind
            """
        )
        counts = {row["kind"]: row["count"] for row in rows}
        return {kind: counts.get(kind, 0) for kind in HeldKind}

    async def held_part(self, held_id: UUID) -> Held | None:
        row = await self.connection.fetchrow(f"{_HELD_PARTS} where held_id = $1", held_id)
        return _held(row) if row else None

    async def held_parts_of(self, study_id: StudyId) -> dict[int, Held]:
        """The held parts of a study, by number."""
        rows = await self.connection.fetch(f"{_HELD_PARTS} where study_id = $1 order by part", study_id)
        return {row["part"]: _held(row) for row in rows}

    async def check_held(self, parts: Sequence[tuple[StudyId, int]]) -> set[tuple[StudyId, int]]:
        """Those of these that wait; 0 is the study as a whole."""
        rows = await self.connection.fetch(
            """
            select asked.study_id, asked.part from unnest($1::uuid[], $2::integer[]) as asked (study_id, part)
            where exists (
                select from held_parts where (study_id, part) = (asked.study_id, asked.part)
            ) or (asked.part = 0 and exists (
                select from waiting_studies where study_id = asked.study_id
            ))
            """,
            [study_id for study_id, _ in parts],
            [part for _, part in parts],
        )
        return {(row["study_id"], row["part"]) for row in rows}

    async def undecided(self, case_id: CaseId, limit: int) -> tuple[int, list[tuple[StudyId, int]]]:
        """How many parts of the case are held as another patient, and the first of them."""
        rows = await self.connection.fetch(
            """
            select study_id, part, count(*) over () as count from held_parts
            where case_id = $1 and kind = $2 order by study_id, part limit $3
            """,
            case_id,
            HeldKind.ANOTHER_PATIENT,
            limit,
        )
        return (rows[0]["count"] if rows else 0), [(row["study_id"], row["part"]) for row in rows]

    async def judged(self, study_id: StudyId) -> dict[int, Judged]:
        rows = await self.connection.fetch("select * from judged_parts where study_id = $1", study_id)
        return {
            row["part"]: Judged(Verdict(row["verdict"]), row["identity"], row["instance_count"])
            for row in rows
        }

    async def judge(self, study_id: StudyId, judged: Mapping[int, Judged], by: str) -> None:
        """Keeps what a person has said; the last word about a part counts."""
        await self.connection.executemany(
            """
            insert into judged_parts values ($1, $2, $3, $4, $5, $6, $7)
            on conflict (study_id, part) do update set verdict = excluded.verdict,
                identity = excluded.identity, instance_count = excluded.instance_count,
                judged_by = excluded.judged_by, judged_at = excluded.judged_at
            """,
            [
                (study_id, part, each.verdict, each.identity, each.instance_count, by, self.now)
                for part, each in judged.items()
            ],
        )


def reason(row: Row) -> str:
    """Why, of a placement or of what waits."""
    is_returned = row["moved_by_hand"] and row["reason"] == Reason.NO_RULE
    return Reason.RETURNED if is_returned else str(row["reason"])


def _held(row: Row) -> Held:
    return Held(
        row["held_id"],
        HeldKind(row["kind"]),
        HeldReason(reason(row)),
        row["case_id"],
        row["study_id"],
        row["series_instance_uid"],
        row["facility_id"],
        row["held_at"],
        row["part"],
        row["identity"],
        row["instance_count"],
        tuple(row["differs"]),
        row.get("facility_name") or "",
    )
