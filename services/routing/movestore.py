"""What became of moves: SQL beside the function that runs it."""

from kernel.dicom import UID
from kernel.ids import CaseId, FacilityId, MoveId
from plumbing.db import Transaction


class MoveStore(Transaction):
    """Keeps what became of the moves that access has begun."""

    async def end_move(self, move_id: MoveId, *, made: bool) -> bool:
        """Whether the move is made; whoever comes first decides, and the other one is told."""
        await self.connection.execute(
            "insert into moves (move_id, made, ended_at) values ($1, $2, $3) on conflict do nothing",
            move_id,
            made,
            self.now,
        )
        return bool(await self.connection.fetchval("select made from moves where move_id = $1", move_id))

    async def case_at(self, facility_id: FacilityId, study_instance_uid: UID) -> CaseId | None:
        """The case that a facility has of a study."""
        case_id: CaseId | None = await self.connection.fetchval(
            "select case_id from placements where facility_id = $1 and study_instance_uid = $2",
            facility_id,
            study_instance_uid,
        )
        return case_id
