"""SIGKILL of any process in the middle of deletions: a case is wholly there or wholly gone.

Around them others go on: recipients fetch what is shared with them, and the modality sends more.
"""

import asyncio
import random
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import chain, count
from pathlib import Path

import pytest

from demo import comparing
from demo.cast import CENTRAL, MODALITY, MOOR, VOS, Person
from demo.cast import ENDPOINT as HERE
from demo.deletion import KEPT
from demo.dicom_files import SyntheticCT
from demo.modality import PynetdicomModality
from demo.reading import FINAL, completes, let_them_read, locks, refusal
from demo.setting import create_user
from demo.sharing import wanted
from demo.traces import SPOOL, Words, search
from demo.world import World
from kernel.errors import NotFound, ReadroomError, Unavailable
from readroom.fetch import fetch_case
from readroom.pages import every
from tests.e2e.kills import Ledger, alone, dice, kill, once_all_are_back, order, strangers
from tests.e2e.silent import Silent
from tests.e2e.test_journey import seen, send
from tests.e2e.test_kills import verify as verify_upload
from tests.wait import eventually
from wire.access.v1.access_pb2 import Case
from wire.ingest.v1.ingest_pb2 import DeleteStudyRequest, Deletion, ListDeletionsRequest
from wire.reporting.v1.reporting_pb2 import ListReportsRequest
from wire.sharing.v1.sharing_pb2 import ListReceivedRequest, ListSharesRequest

VICTIMS = ("ingest", "access", "routing", "reporting", "sharing", "notify", "postgres", "nats")
RESTED = timedelta(minutes=2)
"""After this everybody has been asked and told again."""
WITHIN_S = 60.0

numbers = count(1)


@dataclass(slots=True)
class Doomed:
    """A study that was read and shared, and will be deleted.

    Attributes:
        word: in all that is known of the patient and written about them.
        recipient: with whom it is shared, as nothing else is.
        begun: whether anybody has asked for its deletion.
        answered: whether they were told that it is deleted.
    """

    study: SyntheticCT
    word: str
    sent: list[Path]
    recipient: Person
    case: Case
    begun: bool = False
    answered: bool = False

    @property
    def uids(self) -> set[str]:
        return {self.study.study_instance_uid, self.study.series_instance_uid, *comparing.by_uid(self.sent)}

    async def read_and_share(self, world: World) -> None:
        await locks(VOS)(world, self.case.case_id)
        await completes(VOS, FINAL, f"final of {self.word}")(world, self.case.case_id)
        await create_user(world, self.recipient)
        request = wanted(self.case, [self.recipient], reason=self.word, message=self.word)
        request.recipients[0].two_factor = False
        await (await world.acting_as(VOS.login)).sharing.Share(request)

        async def unlocked() -> bool:
            case = await world.case(VOS.login, self.study.study_instance_uid)
            return bool(case and case.reported_read_types and not case.lock_holder_name)

        await eventually(unlocked)

    async def delete(self, world: World) -> None:
        """Once: who is told nothing does not ask again."""
        self.begun = True
        moor = await world.acting_as(MOOR.login)
        with suppress(Unavailable):
            await moor.ingest.DeleteStudy(DeleteStudyRequest(case_id=self.case.case_id))
            self.answered = True

    async def fetch(self, world: World, folder: Path) -> bool:
        """Whether its recipient obtains it, then to the byte as it was sent; it is not gone by a kill."""
        readroom = await world.acting_as(self.recipient.login)
        try:
            fetched = await fetch_case(readroom, self.case.case_id, folder, Silent())
        except NotFound:
            assert self.begun, "nobody has deleted it"
            return False
        except ReadroomError:
            return False
        self.verify_images(fetched)
        return True

    def verify_images(self, fetched: Sequence[Path]) -> None:
        originals, copies = comparing.by_uid(self.sent), comparing.by_uid(fetched)
        assert originals.keys() == copies.keys()
        assert all(comparing.same_bytes(originals[uid], copies[uid]) for uid in originals)

    async def verify_whole(self, world: World, folder: Path) -> None:
        """Images, report and share are as they were."""
        vos = await world.acting_as(VOS.login)
        for person in (VOS, self.recipient):
            case = await world.case(person.login, self.study.study_instance_uid)
            assert case
            assert (case.case_id, case.instance_count) == (self.case.case_id, self.study.slices)
        self.verify_images(await fetch_case(vos, self.case.case_id, folder / "vos", Silent()))
        assert await self.fetch(world, folder / "recipient")
        written = await vos.reporting.ListReports(ListReportsRequest(case_id=self.case.case_id))
        assert [report.text for report in written.reports] == [f"final of {self.word}"]
        assert await self._shared(world) == (True, True)

    async def verify_gone(self, world: World, folder: Path) -> None:
        """Nobody sees it, whatever they ask."""
        vos = await world.acting_as(VOS.login)
        for person in (VOS, MOOR, self.recipient):
            case = await world.case(person.login, self.study.study_instance_uid)
            assert not case or case.case_id != self.case.case_id
        fetch = fetch_case(vos, self.case.case_id, folder, Silent())
        reports = vos.reporting.ListReports(ListReportsRequest(case_id=self.case.case_id))
        assert isinstance(await refusal(fetch), NotFound)
        assert isinstance(await refusal(reports), NotFound)
        assert await self._shared(world) == (False, False)

    async def _shared(self, world: World) -> tuple[bool, bool]:
        """Whether it is among what was sent, and among what was received."""
        vos, recipient = [await world.acting_as(person.login) for person in (VOS, self.recipient)]
        shares = every(vos.sharing.ListShares, ListSharesRequest(), lambda page: page.shares)
        sent = [share async for share in shares if self.case.case_id in share.case_ids]
        received = (await recipient.sharing.ListReceived(ListReceivedRequest())).received
        return bool(sent), any(self.case.case_id in bucket.case_ids for bucket in received)


def planted(slices: int) -> tuple[SyntheticCT, str]:
    """A study with a word that is nowhere else."""
    number = next(numbers)
    word = f"Vanish{number:03}q"
    study = SyntheticCT(
        slices=slices,
        size=64,
        name=f"doomed-{number}",
        patient_name=f"{word}^Ada",
        patient_id=word,
        study_description=word,
    )
    return study, word


async def prepare(world: World, studies: int, folder: Path) -> list[Doomed]:
    """Studies that were received, read and shared."""
    made = [planted(slices=3) for _ in range(studies)]
    sent = [await asyncio.to_thread(study.write, folder / study.name) for study, _ in made]
    called = world.gateways[CENTRAL.name].called
    await asyncio.to_thread(PynetdicomModality(MODALITY).send, [*chain(*sent)], called, lambda: None)
    doomed = [
        Doomed(study, word, paths, next(strangers), await seen(world, VOS.login, study))
        for (study, word), paths in zip(made, sent, strict=True)
    ]
    for each in doomed:
        await each.read_and_share(world)
    return doomed


async def delete_under_fire(
    world: World, doomed: Sequence[Doomed], victims: Sequence[str], chance: random.Random, folder: Path
) -> None:
    """One deletion just before each kill, while recipients fetch and the modality sends another study."""
    arriving = SyntheticCT(slices=40 * len(victims), size=64, name=f"arriving-{next(numbers)}")
    paths = await asyncio.to_thread(arriving.write, folder / arriving.name)
    sending = asyncio.create_task(asyncio.to_thread(Ledger(paths).send, world))
    fetching = asyncio.create_task(_fetch(world, doomed, random.Random(chance.random()), folder / "fetching"))
    for each, victim in zip(doomed, victims, strict=True):
        deleting = asyncio.create_task(each.delete(world))
        await asyncio.sleep(chance.uniform(0.0, 0.1))
        await asyncio.to_thread(kill, world, victim)
        await deleting
    fetching.cancel()
    with suppress(asyncio.CancelledError):
        await fetching
    await asyncio.wait_for(sending, WITHIN_S)
    world.move_clock(world.now() + RESTED)
    await once_all_are_back(lambda: verify_upload(world, arriving, paths, folder / "arrived"))


async def _fetch(world: World, doomed: Sequence[Doomed], chance: random.Random, folder: Path) -> None:
    for number in count():
        await chance.choice(doomed).fetch(world, folder / str(number))
        await asyncio.sleep(0.05)


async def settled(world: World) -> Mapping[str, Deletion]:
    """Every deletion by its case, once there is none that is not closed."""
    moor = await world.acting_as(MOOR.login)
    found: dict[str, Deletion] = {}

    async def all_closed() -> bool:
        listed = every(moor.ingest.ListDeletions, ListDeletionsRequest(), lambda page: page.deletions)
        try:
            found.update({deletion.case_id: deletion async for deletion in listed})
        except Unavailable as error:  # ingest has just come back
            raise AssertionError from error
        left = {
            each.case_id: tuple(each.waiting_for) for each in found.values() if not each.closed_at.seconds
        }
        assert not left
        return True

    await eventually(all_closed, within=WITHIN_S)
    return found


async def verify(world: World, doomed: Sequence[Doomed], folder: Path) -> list[Doomed]:
    """Answers those that are gone; the others are whole, and of none it was said that it is gone."""
    deletions = await settled(world)
    gone = [each for each in doomed if each.case.case_id in deletions]
    assert all(each in gone for each in doomed if each.answered)
    for each in doomed:
        check = each.verify_gone if each in gone else each.verify_whole
        await once_all_are_back(partial(check, world, folder / f"verify-{each.word}"))
    await nothing_is_left(world, [each.word for each in gone], set().union(*(each.uids for each in gone)))
    return gone


async def nothing_is_left(
    world: World, words: Sequence[str], uids: set[str], listed: Collection[str] = ()
) -> None:
    """But for what docs/deletion.md names, and where something was refused, the list of that."""
    searched = await search(world.system, Words(words, uids))
    left = {place: found for place, found in searched.places.items() if place not in SPOOL}
    assert left.keys() <= {*KEPT, *listed}, left
    assert not set().union(*left.values()) & {*(word.lower() for word in words)}


async def deleted_while_it_arrives(world: World, folder: Path) -> tuple[int, int]:
    """A study of which the gateway has all is deleted at its first image; answers what became of its items.

    What is still on its way is refused for good, also by an ingest that was killed meanwhile.
    """
    study, word = planted(slices=400)
    paths = await asyncio.to_thread(study.write, folder / study.name)
    await asyncio.to_thread(world.system.kill_service, "ingest")
    await asyncio.to_thread(Ledger(paths).send, world)
    starting = asyncio.create_task(asyncio.to_thread(world.system.start_service, "ingest"))

    async def begins() -> Case | None:
        return await world.case(VOS.login, study.study_instance_uid)

    case = await eventually(begins, within=WITHIN_S)
    assert case
    await starting
    moor = await world.acting_as(MOOR.login)
    request = DeleteStudyRequest(case_id=case.case_id)
    await once_all_are_back(lambda: moor.ingest.DeleteStudy(request))
    await asyncio.to_thread(kill, world, "ingest")

    async def all_have_their_answer() -> dict[str, int]:
        spool = world.folder / "gateways" / CENTRAL.name / "spool" / "gateway.db"
        with closing(sqlite3.connect(f"file:{spool}?mode=ro", uri=True)) as gateway:
            rows = gateway.execute(
                "select outcome, count(*) from items join transfers on transfers.id = transfer_id"
                " where study_instance_uid = ? group by outcome",
                (study.study_instance_uid,),
            )
            outcomes = dict(rows)
        assert not outcomes.get("waiting")
        return outcomes

    outcomes = await eventually(all_have_their_answer, within=WITHIN_S)
    await settled(world)
    assert await world.case(VOS.login, study.study_instance_uid) is None
    uids = {study.study_instance_uid, *comparing.by_uid(paths)}
    await nothing_is_left(world, [word], uids, listed=["ingest.refusals"])
    return outcomes.get("acknowledged", 0), outcomes.get("refused", 0)


async def comes_back_new(world: World, gone: Doomed, folder: Path) -> None:
    """What is sent again is another case, and nothing of the old one is with it."""
    await send(world, CENTRAL, gone.study, folder)
    case = await seen(world, VOS.login, gone.study)
    assert case.case_id != gone.case.case_id
    vos = await world.acting_as(VOS.login)
    written = await vos.reporting.ListReports(ListReportsRequest(case_id=case.case_id))
    assert not [*written.reports, *written.drafts]
    assert await world.case(gone.recipient.login, gone.study.study_instance_uid) is None


@pytest.mark.proves("R3", part="one SIGKILL each of ingest and access while studies are deleted")
async def test_a_kill_in_the_middle_of_a_deletion_leaves_no_half(
    world: World, readers: None, outside: None, tmp_path: Path
) -> None:
    victims = ("ingest", "access")
    doomed = await prepare(world, len(victims), tmp_path)

    await delete_under_fire(world, doomed, victims, random.Random(4), tmp_path)

    await verify(world, doomed, tmp_path)


@pytest.mark.drill
@pytest.mark.proves("R3", part="24 SIGKILLs in random order while studies are deleted")
@pytest.mark.proves("A60", part="SIGKILLs end to end")
async def test_kills_in_random_order_leave_every_case_whole_or_gone(tmp_path: Path) -> None:
    chance = dice()
    async with alone(tmp_path) as world:
        await let_them_read(world)
        await create_user(world, MOOR)
        await world.permit(MOOR, "study.delete", HERE)
        victims = order(VICTIMS, 3, chance)
        doomed = await prepare(world, len(victims), tmp_path)

        await delete_under_fire(world, doomed, victims, chance, tmp_path)

        gone = await verify(world, doomed, tmp_path)
        answered = [each for each in doomed if each.answered]
        print(f"{len(answered)} deletions were answered, {len(gone)} of {len(doomed)} cases are gone")
        assert answered
        await comes_back_new(world, chance.choice(gone), tmp_path / "again")

        acknowledged, refused = await deleted_while_it_arrives(world, tmp_path)
        print(f"{acknowledged} images had arrived, {refused} were refused")
        assert refused
