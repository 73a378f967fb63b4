"""Commands on folders and grants: what shows single cases to users beside their privileges."""

import click

from kernel.errors import Invalid
from readroom import names
from readroom.acting import acting, listing
from readroom.client import Readroom
from readroom.pages import every
from readroom.show import Column, Output, Table, as_object, instant
from readroom.users import made_from
from wire.access.v1.access_pb2 import (
    CaseGrant,
    Folder,
    FolderCase,
    GrantCaseRequest,
    ListFolderCasesRequest,
    ListGrantsRequest,
    PutInFolderRequest,
    RemoveFromFolderRequest,
    RevokeGrantRequest,
    SaveFolderRequest,
)


@click.group()
def folder() -> None:
    """Shared folders: cases shown to members."""


async def folder_table(readroom: Readroom) -> Table[Folder]:
    """The columns of a folder."""
    login = await names.user_login(readroom)
    return (
        Column("name", lambda f: f.name),
        Column("members", lambda f: [login(member) for member in f.member_user_ids]),
        Column("folder_id", lambda f: f.folder_id),
        Column("version", lambda f: f.version, json_only=True),
        Column("changed_by", lambda f: f.changed_by or None, json_only=True),
        Column(
            "changed_at",
            lambda f: instant(f.changed_at) if f.HasField("changed_at") else None,
            json_only=True,
        ),
    )


@folder.command("create")
@click.argument("name")
@click.option(
    "--member",
    "members",
    multiple=True,
    metavar="LOGIN",
    help="Put this user into the folder; may be repeated.",
)
@acting
async def create_folder(readroom: Readroom, out: Output, name: str, members: tuple[str, ...]) -> None:
    """Create a folder."""
    await _save_folder(readroom, out, Folder(name=name), add=members, remove=())


@folder.command("change")
@click.argument("folder")
@click.option("--name", help="Give the folder this name.")
@click.option("--add", multiple=True, metavar="LOGIN", help="A new member; may be repeated.")
@click.option("--remove", multiple=True, metavar="LOGIN", help="No longer a member; may be repeated.")
@made_from
@acting
async def change_folder(
    readroom: Readroom,
    out: Output,
    folder: str,
    name: str | None,
    add: tuple[str, ...],
    remove: tuple[str, ...],
    version: int | None,
) -> None:
    """Change a folder's name or members."""
    wanted = await names.folder(readroom, folder)
    wanted.version = wanted.version if version is None else version
    wanted.name = name or wanted.name
    await _save_folder(readroom, out, wanted, add, remove)


async def _save_folder(
    readroom: Readroom, out: Output, wanted: Folder, add: tuple[str, ...], remove: tuple[str, ...]
) -> None:
    members = dict.fromkeys(wanted.member_user_ids)
    members |= dict.fromkeys([await names.user_id(readroom, login) for login in add])
    for login in remove:
        members.pop(await names.user_id(readroom, login), None)
    del wanted.member_user_ids[:]
    wanted.member_user_ids.extend(members)
    saved = await readroom.access.SaveFolder(SaveFolderRequest(folder=wanted))
    out.item(await folder_table(readroom), saved.folder)


@folder.command("show")
@click.argument("folder")
@acting
async def show_folder(readroom: Readroom, out: Output, folder: str) -> None:
    """Show a folder: its members, and the cases in it."""
    found = await names.folder(readroom, folder)
    request = ListFolderCasesRequest(folder_id=found.folder_id)
    entries = every(readroom.access.ListFolderCases, request, lambda page: page.folder_cases)
    cases = [each async for each in entries]
    table = await folder_table(readroom)
    if out.as_json:
        told = {**as_object(table, found), "cases": [as_object(ENTRY, each) for each in cases]}
        out.told([], told)
        return
    out.item(table, found)
    if cases:
        click.echo()
        out.items(ENTRY, cases)
    else:
        out.told(["no case is in it"], [])


@folder.command("list")
@listing
async def list_folders(readroom: Readroom, out: Output) -> None:
    """List the folders."""
    out.items(await folder_table(readroom), [f async for f in names.folders(readroom)])


@folder.command("put")
@click.argument("folder")
@click.argument("case_id")
@acting
async def put_in_folder(readroom: Readroom, out: Output, folder: str, case_id: str) -> None:
    """Show a case to the folder's members."""
    request = PutInFolderRequest(folder_id=await names.folder_id(readroom, folder), case_id=case_id)
    answer = await readroom.access.PutInFolder(request)
    out.done(f"case {case_id} is in folder `{folder}`", case_id=case_id, revision=answer.revision)


@folder.command("remove")
@click.argument("folder")
@click.argument("case_id")
@acting
async def remove_from_folder(readroom: Readroom, out: Output, folder: str, case_id: str) -> None:
    """Take a case out of the folder."""
    request = RemoveFromFolderRequest(folder_id=await names.folder_id(readroom, folder), case_id=case_id)
    answer = await readroom.access.RemoveFromFolder(request)
    out.done(f"case {case_id} is not in folder `{folder}`", case_id=case_id, revision=answer.revision)


ENTRY = (
    Column[FolderCase]("folder", lambda e: e.folder_name or e.folder_id),
    Column[FolderCase]("case_id", lambda e: e.case_id),
    Column[FolderCase]("facility", lambda e: e.facility_name),
    Column[FolderCase]("folder_id", lambda e: e.folder_id, json_only=True),
    Column[FolderCase]("facility_id", lambda e: e.facility_id, json_only=True),
)
"""The columns of a case in a folder. A folder that the caller may not use is shown by its id."""


@folder.command("cases")
@click.argument("folder")
@acting
async def list_cases_in_folder(readroom: Readroom, out: Output, folder: str) -> None:
    """List the cases in a folder."""
    await _list_entries(
        readroom, out, ListFolderCasesRequest(folder_id=await names.folder_id(readroom, folder))
    )


@folder.command("holding")
@click.argument("case_id")
@acting
async def list_folders_holding(readroom: Readroom, out: Output, case_id: str) -> None:
    """List the folders that hold a case."""
    await _list_entries(readroom, out, ListFolderCasesRequest(case_id=case_id))


async def _list_entries(readroom: Readroom, out: Output, request: ListFolderCasesRequest) -> None:
    found = every(readroom.access.ListFolderCases, request, lambda page: page.folder_cases)
    out.items(ENTRY, [e async for e in found])


@click.group()
def grant() -> None:
    """Single cases shown to single users."""


@grant.command("create")
@click.argument("case_id")
@click.argument("login")
@acting
async def create_grant(readroom: Readroom, out: Output, case_id: str, login: str) -> None:
    """Show one case to one user."""
    request = GrantCaseRequest(case_id=case_id, user_id=await names.user_id(readroom, login))
    answer = await readroom.access.GrantCase(request)
    out.done(f"case {case_id} is granted to `{login}`", case_id=case_id, revision=answer.revision)


GRANT = (
    Column[CaseGrant]("user", lambda g: g.login or g.user_id),
    Column[CaseGrant]("case_id", lambda g: g.case_id),
    Column[CaseGrant]("facility", lambda g: g.facility_name),
    Column[CaseGrant]("user_id", lambda g: g.user_id, json_only=True),
    Column[CaseGrant]("facility_id", lambda g: g.facility_id, json_only=True),
)
"""The columns of a grant. A user whom the caller does not manage is shown by their id."""


@grant.command("list")
@click.option("--case", "case_id", default="", metavar="CASE_ID", help="Whom this case is granted to.")
@click.option("--user", "login", default="", metavar="LOGIN", help="What is granted to this user.")
@listing
async def list_grants(readroom: Readroom, out: Output, case_id: str, login: str) -> None:
    """List the grants of a case, or those to a user."""
    if bool(case_id) == bool(login):
        raise Invalid("name either `--case` or `--user`")
    request = ListGrantsRequest(
        case_id=case_id, user_id=await names.user_id(readroom, login) if login else ""
    )
    found = every(readroom.access.ListGrants, request, lambda page: page.grants)
    out.items(GRANT, [g async for g in found])


@grant.command("revoke")
@click.argument("case_id")
@click.argument("login")
@acting
async def revoke_grant(readroom: Readroom, out: Output, case_id: str, login: str) -> None:
    """Take a grant back."""
    request = RevokeGrantRequest(case_id=case_id, user_id=await names.user_id(readroom, login))
    answer = await readroom.access.RevokeGrant(request)
    out.done(f"case {case_id} is not granted to `{login}`", case_id=case_id, revision=answer.revision)


COMMANDS = (folder, grant)
