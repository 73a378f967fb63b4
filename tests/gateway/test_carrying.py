"""Many studies go to Central server in few associations, and each is told at its end."""

from collections import Counter

import pytest

from tests.gateway.system import CentralOfTheTest, Entry, Gateway, digest
from tests.ingest.builders import a_uid
from tests.ingest.objects import a_ct, with_other_bytes
from tests.ingest.system import sent_objects
from tests.wait import eventually

STUDIES = 40


@pytest.mark.proves("P13", part="an association carries many studies")
async def test_many_studies_go_in_few_associations_and_each_end_is_told(
    gateway: Gateway, central: CentralOfTheTest
) -> None:
    await central.stop()
    gateway.start()
    sending = [a_ct() for _ in range(STUDIES)]
    double = [a_ct(study=study) for study in [a_uid()] * 2]
    await sent_objects(gateway.modality(), *sending, *double)
    await central.start()
    await eventually(lambda: gateway.states() == ["done"] * (STUDIES + 1), within=60)
    assert central.digests() == {digest(each) for each in (*sending, *double)}
    assert len(central.entries) == STUDIES + 2
    # Two workers, and each may lose one to the way back of Central server.
    assert central.associations <= 8
    await eventually(lambda: len(central.ended) == STUDIES + 1)
    assert Counter(instances for _, instances in central.ended) == {1: STUDIES, 2: 1}
    assert {transfer_id for transfer_id, _ in central.ended} == {begun[0] for begun in central.begun}


@pytest.mark.proves("A26", part="a gateway and Central server of the version before")
async def test_central_of_the_version_before_gets_an_association_for_each_study(
    gateway: Gateway, central: CentralOfTheTest
) -> None:
    central.carries_many = False
    gateway.start()
    sending = [a_ct() for _ in range(6)]
    await sent_objects(gateway.modality(), *sending)
    await eventually(lambda: gateway.states() == ["done"] * 6, within=60)
    assert central.digests() == {digest(each) for each in sending}
    named = {entry.transfer_id for entry in central.entries}
    assert len(named) == 6 == len(central.begun) == central.associations
    assert central.ended == []


@pytest.mark.proves("A26", part="of several transfers of a study each is named")
async def test_transfers_of_one_study_have_associations_of_their_own(
    gateway: Gateway, central: CentralOfTheTest
) -> None:
    """Else Central server could take the instances of an old one as those of the newest."""
    await central.stop()
    gateway.start()
    first = a_ct()
    corrected = with_other_bytes(first)
    others = [a_ct() for _ in range(4)]
    await sent_objects(gateway.modality(), first, corrected, *others)
    await central.start()
    await eventually(lambda: gateway.states() == ["done"] * 6, within=60)
    of_study = {entry.sha256: entry.transfer_id for entry in central.entries}
    transfers = {
        sha256: transfer_id
        for transfer_id, sha256 in gateway.rows("select transfer_id, sha256 from items")
        if sha256 in (digest(first), digest(corrected))
    }
    assert {sha256: of_study[sha256] for sha256 in transfers} == transfers


async def test_what_central_has_forgotten_is_announced_again(
    gateway: Gateway, central: CentralOfTheTest
) -> None:
    sending = [a_ct() for _ in range(3)]
    forgotten: list[str] = []

    def forgets_one(entry: Entry) -> int:
        if entry.sha256 == digest(sending[2]) and not forgotten:
            forgotten.append(entry.sha256)
            return 0xC112
        return 0

    central.answers = forgets_one
    gateway.start()
    await sent_objects(gateway.modality(), *sending)
    await eventually(lambda: gateway.states() == ["done"] * 3, within=60)
    assert forgotten
    times = Counter(transfer_id for transfer_id, *_ in central.begun)
    assert sorted(times.values()) == [1, 1, 2]


async def test_one_announcement_that_is_refused_keeps_no_other(
    gateway: Gateway, central: CentralOfTheTest
) -> None:
    await central.stop()
    gateway.start()
    studies = [a_uid() for _ in range(8)]
    await sent_objects(gateway.modality(), *(a_ct(study=study) for study in studies))
    central.refuses = {studies[5]}
    await central.start()
    await eventually(lambda: sorted(set(gateway.states())) == ["done", "waiting"], within=60)
    await eventually(lambda: gateway.states().count("done") == 7, within=60)
    assert "of the test" in gateway.rows("select reason from transfers where state = 'waiting'")[0][0]
    central.refuses = set()
    await eventually(lambda: gateway.states() == ["done"] * 8, within=60)
