"""CheckAgain: what ingest asks while a stream of images is open (A69)."""

from functools import partial
from uuid import UUID, uuid4

import pytest

from kernel.errors import Denied, Invalid
from kernel.events import CasePlaced
from tests.access.service import CLOCK, Service
from tests.wait import eventually
from wire.access.v1 import access_pb2 as pb


async def seen(service: Service, case_id: str, login: str = "jane", session: str = "s") -> list[str]:
    """The StudyIds that ingest is told, without a token, or with one that has expired."""
    request = pb.CheckAgainRequest(login=login, session=session, case_id=case_id)
    answers = [
        await service.called_by("ingest", token).CheckAgain(request)
        for token in (lambda: "", partial(service.token, login=login, now=CLOCK.now().replace(year=2020)))
    ]
    assert answers[0] == answers[1]
    return [study.study_id for study in answers[0].studies]


@pytest.mark.proves("A69", part="access answers ingest for as long as sight lasts")
async def test_ingest_hears_at_once_that_sight_has_ended(service: Service) -> None:
    facility_id, elsewhere = await service.facility(), await service.facility("South")
    jane = await service.user()
    study_id = service.a_study(("1.1", "CT", 1))
    case_id = str(service.a_placement(facility_id, study_id))
    await service.give(jane, facility_id, pb.LEVEL_VIEW)
    await service.say(CasePlaced(UUID(case_id), 1))
    await eventually(service.listed)
    assert await seen(service, case_id) == [study_id]
    for nobody in ("mallory", "", "jane' or '1'='1", "x" * 5000):
        assert await seen(service, case_id, nobody) == []
    assert await seen(service, str(uuid4())) == []

    await service.give(jane, facility_id, pb.LEVEL_UNSPECIFIED)
    assert await seen(service, case_id) == []
    await service.give(jane, facility_id, pb.LEVEL_VIEW)
    assert await seen(service, case_id) == [study_id]

    # A move takes the case out of sight.
    service.a_placement(elsewhere, study_id, case_id=case_id, version=2)
    await service.say(CasePlaced(UUID(case_id), 2))

    async def is_gone() -> bool:
        return await seen(service, case_id) == []

    await eventually(is_gone)


@pytest.mark.proves("SEC-14", part="access: only ingest asks again")
@pytest.mark.parametrize("peer", ["bff", "routing", "reporting", "sharing", "notify", "access"])
async def test_nobody_but_ingest_asks_for_another(service: Service, peer: str) -> None:
    request = pb.CheckAgainRequest(login="jane", session="s", case_id=str(uuid4()))
    with pytest.raises(Denied):
        await service.acting("jane", peer).CheckAgain(request)
    with pytest.raises(Invalid):
        await service.called_by("ingest").CheckAgain(pb.CheckAgainRequest(login="jane", case_id="x"))
