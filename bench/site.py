"""A system to measure: one facility, one enrolled gateway, a radiologist who sees everything."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from bench import studies
from bench.sender import store
from local.system import LocalSystem
from plumbing.rpc import TLSFiles
from readroom.client import Readroom, connect
from readroom.endpoints import Endpoints
from readroom.enrol import enrol_gateway
from readroom.facilities import save_facility
from readroom.session import Session
from wire.access.v1 import access_pb2 as access
from wire.routing.v1.routing_pb2 import Facility

AE_TITLE = "BENCH"
LOGIN = "bench"


@dataclass(frozen=True, slots=True)
class Site:
    """The running system, and who calls and sends.

    Attributes:
        folder: where a measurement may put files; gone at the end.
        gateway: the identity of the enrolled gateway, which sends as AE_TITLE.
        readroom: the services, called as the radiologist.
    """

    folder: Path
    system: LocalSystem
    endpoints: Endpoints
    gateway: TLSFiles
    readroom: Readroom
    facility_id: str


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Site]:
    """Starts a durable system in a folder of its own and prepares it."""
    with tempfile.TemporaryDirectory(prefix="readroom-bench-") as name:
        folder = Path(name)
        system = LocalSystem(folder / "data", first_admin=LOGIN)
        system.start()
        try:
            endpoints = Endpoints.read(system.data_dir)
            async with connect(endpoints, Session.begin(LOGIN)) as readroom:
                facility_id = await _prepare(readroom, folder / "gateway")
                gateway = identity(folder / "gateway", endpoints)
                yield Site(folder, system, endpoints, gateway, readroom, facility_id)
        finally:
            system.stop()


def identity(gateway_folder: Path, endpoints: Endpoints) -> TLSFiles:
    """The identity of an enrolled gateway."""
    pem, key = (gateway_folder / f"gateway.{kind}" for kind in ("pem", "key"))
    return TLSFiles(pem, key, endpoints.gateway_ca)


async def store_cases(site: Site, wanted: int) -> list[str]:
    """Stores so many studies of one small instance; their case ids, as soon as the radiologist sees all."""
    for number in range(wanted):
        paths = studies.write_study(site.folder / f"case{number}", 1, studies.SIDE_39_KB)
        await asyncio.to_thread(store, site.endpoints.dicom, site.gateway, AE_TITLE, paths)
    while True:
        listed = await site.readroom.access.ListCases(access.ListCasesRequest(page_size=wanted))
        if len(listed.cases) == wanted:
            return [case.case_id for case in listed.cases]
        await asyncio.sleep(0.02)


async def _prepare(readroom: Readroom, gateway_folder: Path) -> str:
    users = await readroom.access.ListUsers(access.ListUsersRequest())
    user = next(user for user in users.users if user.login == LOGIN)
    for permission in ("facility.admin", "gateway.admin", "share.create"):
        user.permissions.append(access.PermissionGrant(permission=permission))
    await readroom.access.SaveUser(access.SaveUserRequest(user=user, set_permissions=True))
    return await add_facility(readroom, "Bench", AE_TITLE, gateway_folder)


async def add_facility(readroom: Readroom, name: str, ae_title: str, gateway_folder: Path) -> str:
    """Makes a facility whose cases the radiologist reads, and enrols a gateway for it; answers its id."""
    users = await readroom.access.ListUsers(access.ListUsersRequest())
    user = next(user for user in users.users if user.login == LOGIN)
    facility_id = (await save_facility(readroom, Facility(name=name))).facility_id
    await readroom.access.SavePrivilege(
        access.SavePrivilegeRequest(
            privilege=access.Privilege(
                user_id=user.user_id, facility_id=facility_id, level=access.LEVEL_REPORT
            )
        )
    )
    await enrol_gateway(readroom, name.lower(), [(ae_title, facility_id)], gateway_folder)
    return facility_id
