"""Position: a hospital whose modality writes what it likes into what it sends.

It sends two studies of 3,600 series, each with a Modality of 1,020 characters of its own. The worklist of
everybody who reads for it, and for others, is answered as before.
"""

from collections.abc import AsyncIterator, Callable
from uuid import UUID

import pytest

from kernel.events import CasePlaced
from local.embedded import EmbeddedServers
from local.pki import Pki
from tests.access.service import Service, serve
from tests.wait import eventually
from wire.access.v1 import access_pb2 as pb

SERIES = 3_600


@pytest.fixture
async def access(
    servers: EmbeddedServers, fresh_database: Callable[[str], str], pki: Pki
) -> AsyncIterator[Service]:
    async for served in serve(servers, fresh_database("access"), pki):
        yield served


async def test_the_worklist_of_who_reads_for_a_hospital_arrives_whatever_it_sends(access: Service) -> None:
    hospital, other = await access.facility("Hospital"), await access.facility("Other")
    reader = await access.user()
    for facility_id in (hospital, other):
        await access.give(reader, facility_id, pb.LEVEL_REPORT)
    oversized = [
        access.a_study(*((f"1.{study}.{n}", f"{n:04}".ljust(1020, "X"), 1) for n in range(SERIES)))
        for study in (1, 2)
    ]
    placed = [access.a_placement(hospital, study_id) for study_id in oversized]
    placed.append(access.a_placement(other, access.a_study(("2.1", "CT", 1))))
    await access.say(*(CasePlaced(case_id, 1) for case_id in placed))

    async def all_are_listed() -> bool:
        return len(await access.listed()) == 3

    await eventually(all_are_listed)
    cases = {UUID(case.case_id): case for case in await access.listed()}
    for case_id in placed[:2]:
        assert (32, SERIES - 32) == (
            len(cases[case_id].modalities_in_study),
            cases[case_id].modalities_left_out,
        )
        assert {16} == {len(modality) for modality in cases[case_id].modalities_in_study}
        assert SERIES == cases[case_id].series_count
    assert ["CT"] == list(cases[placed[2]].modalities_in_study)
