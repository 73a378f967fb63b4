"""Names where the contracts take ids: an id is taken as it is, a name is looked up by listing."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar
from uuid import UUID

from kernel.errors import Conflict, Denied, NotFound
from readroom.client import Readroom
from readroom.pages import every
from wire.access.v1.access_pb2 import Folder, ListFoldersRequest, ListUsersRequest, User
from wire.access.v1.identity_pb2 import ListMyFacilitiesRequest
from wire.ingest.v1.ingest_pb2 import Gateway, ListGatewaysRequest
from wire.routing.v1.routing_pb2 import Facility, ListFacilitiesRequest

T = TypeVar("T")


def facilities(readroom: Readroom) -> AsyncIterator[Facility]:
    """Every facility, by name."""
    return every(readroom.routing.ListFacilities, ListFacilitiesRequest(), lambda page: page.facilities)


def users(readroom: Readroom) -> AsyncIterator[User]:
    """Every user, by login."""
    return every(readroom.access.ListUsers, ListUsersRequest(), lambda page: page.users)


def folders(readroom: Readroom) -> AsyncIterator[Folder]:
    """Every folder, by name."""
    return every(readroom.access.ListFolders, ListFoldersRequest(), lambda page: page.folders)


def gateways(readroom: Readroom) -> AsyncIterator[Gateway]:
    """Every gateway, newest first."""
    return every(readroom.ingest.ListGateways, ListGatewaysRequest(), lambda page: page.gateways)


async def facility(readroom: Readroom, name: str) -> Facility:
    """The facility with this name or id."""
    found = [f async for f in facilities(readroom) if same(f.name, name) or f.facility_id == name]
    return _only("facility", name, found)


async def facility_id(readroom: Readroom, name: str) -> str:
    """The id of the facility with this name."""
    return name if is_id(name) else (await facility(readroom, name)).facility_id


async def user_id(readroom: Readroom, login: str) -> str:
    """The id of the user with this login."""
    return login if is_id(login) else (await user(readroom, login)).user_id


async def user(readroom: Readroom, login: str) -> User:
    """The user with this login or id."""
    found = [u async for u in users(readroom) if same(u.login, login) or u.user_id == login]
    return _only("user", login, found)


async def folder(readroom: Readroom, name: str) -> Folder:
    """The folder with this name or id."""
    found = [f async for f in folders(readroom) if same(f.name, name) or f.folder_id == name]
    return _only("folder", name, found)


async def folder_id(readroom: Readroom, name: str) -> str:
    """The id of the folder with this name."""
    return name if is_id(name) else (await folder(readroom, name)).folder_id


async def gateway(readroom: Readroom, name: str) -> Gateway:
    """The live gateway with this name, or any with this id; Conflict if several have the name."""
    found = [g async for g in gateways(readroom)]
    live = [g for g in found if same(g.name, name) and not g.HasField("revoked_at")]
    return _only("gateway", name, [g for g in found if g.gateway_id == name] or live)


async def gateway_id(readroom: Readroom, name: str) -> str:
    """The id of the live gateway with this name; Conflict if several have it."""
    return name if is_id(name) else (await gateway(readroom, name)).gateway_id


async def facility_name(readroom: Readroom) -> Callable[[str], str]:
    """Shows a facility by name; whoever may not list facilities is told the names of those they know of."""
    try:
        by_id = {f.facility_id: f.name async for f in facilities(readroom)}
    except Denied:
        request = ListMyFacilitiesRequest()
        known = every(readroom.identities.ListMyFacilities, request, lambda page: page.facilities)
        by_id = {f.facility_id: f.name async for f in known}
    return lambda facility_id: by_id.get(facility_id, facility_id)


async def user_login(readroom: Readroom) -> Callable[[str], str]:
    """Shows a user by login."""
    by_id = {u.user_id: u.login async for u in users(readroom)}
    return lambda user_id: by_id.get(user_id, user_id)


def is_id(text: str) -> bool:
    """Whether this is an id rather than a name."""
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


def same(one: str, other: str) -> bool:
    """Whether two names are the same without regard to case."""
    return one.casefold() == other.casefold()


def _only(noun: str, name: str, found: Sequence[T]) -> T:
    match found:
        case [one]:
            return one
        case []:
            raise NotFound(f"there is no {noun} `{name}`")
        case _:
            raise Conflict(f"several have the name `{name}`: name the {noun} by its id")
