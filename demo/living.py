"""`python -m demo.living`: a living system for a visitor, with forty cases, until Ctrl-C.

All of it comes as it does in practice: by enrolled gateways, by the door of the web, by what people do.
When it ends, nothing of it stays.
"""

import asyncio
import secrets
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from threading import Event, Thread

import click
from rich.console import Console

from demo import visitor
from demo.cast import (
    ADEYEMI,
    ADMIN,
    ENDPOINT,
    LIND,
    MARSH,
    MODALITY,
    MOOR,
    OKAFOR,
    STANDARD,
    VOS,
)
from demo.invented import CASES, Invented, studies
from demo.modality import Refused, modality
from demo.reading import completes, drafts, locks
from demo.setting import create_user, set_the_scene
from demo.stage import Stage, Unproven
from demo.world import World
from kernel.errors import ReadroomError, Unavailable
from local.__main__ import run
from local.system import ROOT, LocalSystem
from plumbing.files import write_private
from readroom import names
from readroom.client import connect
from readroom.endpoints import Endpoints
from readroom.session import Session
from wire.access.v1.access_pb2 import (
    LEVEL_DRAFT,
    LEVEL_REPORT,
    LEVEL_VIEW,
    READ_TYPE_FINAL,
    READ_TYPE_PRELIMINARY,
    AssignRequest,
    Level,
)
from wire.reporting.v1.reporting_pb2 import ActivateReadTypeRequest, RenewLockRequest

_COMES_WITHIN_S = 120.0

_RENEWED_EVERY_S = 100.0
"""A lock lasts five minutes."""

_SEES: tuple[tuple[str, str, "Level.ValueType"], ...] = (
    (VOS.login, ENDPOINT, LEVEL_REPORT),
    (VOS.login, STANDARD, LEVEL_REPORT),
    (MARSH.login, ENDPOINT, LEVEL_REPORT),
    (ADEYEMI.login, STANDARD, LEVEL_REPORT),
    (LIND.login, ENDPOINT, LEVEL_DRAFT),
    (OKAFOR.login, STANDARD, LEVEL_VIEW),
)
"""Beside what the cast begins with."""

_WHO = {
    ADMIN: "runs the installation, and sees no cases",
    VOS.login: "radiologist, reports at both facilities: all cases",
    MARSH.login: f"radiologist at {ENDPOINT}",
    ADEYEMI.login: f"radiologist at {STANDARD}",
    LIND.login: f"types reports at {ENDPOINT}",
    OKAFOR.login: f"referring physician, looks at cases of {STANDARD}",
    MOOR.login: f"manager of {ENDPOINT}",
}
"""Whose password is chosen for a visitor."""

_TEXTS = (
    "No acute finding. Nothing has changed since the study before.",
    "A finding of 8 mm that was not there before. Repeat in three months.",
    "Normal for the age. No further examination is needed.",
)
_EVA_READS = 0.5


@dataclass(frozen=True, slots=True)
class Held:
    """A lock that somebody of the cast holds, in the session that holds it."""

    session: Session
    case_id: str


@dataclass(frozen=True, slots=True)
class Furnished:
    """What a visitor finds: the passwords by login, and the locks to renew as long as they visit."""

    passwords: dict[str, str]
    held: list[Held]


async def furnish(world: World) -> Furnished:
    """Facilities, people, cases, and some of what people do with them."""
    await set_the_scene(world)
    world.user_ids[ADMIN] = await names.user_id(await world.acting_as(ADMIN), ADMIN)
    for person in (MARSH, MOOR):
        await create_user(world, person)
    readroom = await world.acting_as(ADMIN)
    for facility in (ENDPOINT, STANDARD):
        await readroom.reporting.ActivateReadType(
            ActivateReadTypeRequest(
                facility_id=world.facility_ids[facility], read_type=READ_TYPE_PRELIMINARY, active=True
            )
        )
    for login, facility, level in _SEES:
        types = [READ_TYPE_PRELIMINARY, READ_TYPE_FINAL] if level == LEVEL_REPORT else []
        await world.set_privilege(login, facility, level, read_types=types)
    sent = await _send(world)
    held = await _work(world, sent)
    return Furnished({login: await _password(world, login) for login in _WHO}, held)


async def _send(world: World) -> list[Invented]:
    """Has the modality send all, and waits until they are listed."""
    wanted = list(studies(datetime.now(UTC)))
    paths: dict[str, list[Path]] = {}
    for study in wanted:
        written = await asyncio.to_thread(study.write, world.folder / "modality" / f"{study.number:02}")
        paths.setdefault(study.site.name, []).extend(written)
    sender = modality(MODALITY)
    for site, files in paths.items():
        called = world.gateways[site].called
        await asyncio.to_thread(sender.send, files, called, lambda: None)

    async def all_listed() -> bool:
        cases = await world.worklist(VOS.login)
        return sum(case.instance_count for case in cases) == sum(study.images for study in wanted)

    await world.stage.until(
        all_listed, f"{CASES} invented cases are on the worklist of {VOS.name}", within_s=_COMES_WITHIN_S
    )
    return wanted


async def _work(world: World, sent: list[Invented]) -> list[Held]:
    """People read the older half, begin with two cases, and assign others."""
    listed = {case.study_instance_uid: case.case_id for case in await world.worklist(VOS.login)}
    ids = {study.number: listed[str(study.study.study_instance_uid)] for study in sent}
    random = Random(44)
    for study in sent[: CASES // 2]:
        reader = VOS if random.random() < _EVA_READS else (MARSH if study.facility == ENDPOINT else ADEYEMI)
        kind = random.choice((READ_TYPE_FINAL, READ_TYPE_FINAL, READ_TYPE_PRELIMINARY))
        await locks(reader)(world, ids[study.number])
        await completes(reader, kind, random.choice(_TEXTS))(world, ids[study.number])
    at_endpoint = [ids[study.number] for study in sent[CASES // 2 :] if study.facility == ENDPOINT]
    being_read, drafted, *later = at_endpoint
    held = [
        Held(world.session(login), case_id)
        for login, case_id in ((MARSH.login, being_read), (VOS.login, drafted))
    ]
    await locks(MARSH)(world, being_read)
    await locks(VOS)(world, drafted)
    await drafts(VOS, "Compared with the study before: ")(world, drafted)
    await world.permit(VOS, "case.assign", ENDPOINT)
    eva = await world.acting_as(VOS.login)
    for case_id in later[:4]:
        await eva.access.Assign(AssignRequest(case_id=case_id, assignee_login=MARSH.login))
    world.stage.check(len(later) > 4, f"{CASES // 2} are reported, two are being read, four are assigned")
    return held


async def renew(endpoints: Endpoints, held: Held) -> bool:
    """Whether its holder still has the lock: a visitor may have broken it, or taken it over."""
    try:
        async with connect(endpoints, held.session) as readroom:
            await readroom.reporting.RenewLock(RenewLockRequest(case_id=held.case_id))
    except Unavailable:
        return True  # it is tried again
    except ReadroomError:
        return False
    return True


@contextmanager
def renewing(endpoints: Endpoints, held: list[Held], every_s: float) -> Iterator[None]:
    """Renews the locks beside the block, as a page that is open does."""
    ends = Event()

    def renews() -> None:
        left = held
        while not ends.wait(every_s):
            left = [each for each in left if asyncio.run(renew(endpoints, each))]

    thread = Thread(target=renews, name="locks", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()


async def _password(world: World, login: str) -> str:
    password = secrets.token_urlsafe(12)
    await visitor.choose_password(world.endpoints.pages, await visitor.invited(world, login), password)
    return password


def furnished(system: LocalSystem, beside: ExitStack) -> str:
    """Furnishes a system that runs; answers what a visitor is told. `beside` ends what goes on meanwhile."""

    async def furnishing() -> Furnished:
        async with AsyncExitStack() as resources:
            return await furnish(World(Stage(Console(highlight=False)), system, resources))

    made = asyncio.run(furnishing())
    beside.enter_context(renewing(system.endpoints(), made.held, _RENEWED_EVERY_S))
    passwords = made.passwords
    file = system.data_dir / "sign-ins"
    lines = [f"{login:<10}{password:<18}{_WHO[login]}" for login, password in passwords.items()]
    write_private(file, "\n".join(lines).encode() + b"\n")
    shown = "\n  ".join(lines) if sys.stdout.isatty() else f"see {file}"
    has_viewer = (ROOT / "viewer/index.html").exists()
    viewer = "" if has_viewer else "\nImages do not open yet: end this, run `make viewer`, and begin again.\n"
    return f"\nOpen {system.endpoints().pages} and sign in by login and password:\n  {shown}\n{viewer}"


@click.command()
def main() -> None:
    """Runs a system with forty invented cases until Ctrl-C; nothing of it stays."""
    warnings.filterwarnings("ignore", module="pydicom")
    system = LocalSystem(Path(tempfile.mkdtemp(prefix="readroom-visit-")), first_admin=ADMIN)
    print("Readroom starts: servers, services and forty cases take about a minute.", flush=True)
    try:
        with ExitStack() as beside:
            code = run(system, lambda: furnished(system, beside))
    except (Unproven, Refused, ReadroomError) as error:
        raise click.ClickException(str(error)) from None
    finally:
        system.servers.remove()
    sys.exit(code)


if __name__ == "__main__":
    main()
