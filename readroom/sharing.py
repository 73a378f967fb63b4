"""Commands on what sharing owns: shares, what was received, one-time codes, and what a facility allows."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import click

from kernel.errors import Denied, Invalid, NotFound
from readroom import names
from readroom.acting import acting, listing
from readroom.client import Readroom
from readroom.pages import every
from readroom.show import Column, Output, Table, day, instant, person
from readroom.words import BUCKETS, LANGUAGES, RIGHTS
from wire.access.v1.access_pb2 import Case, DescribeCaseRequest
from wire.sharing.v1.sharing_pb2 import (
    RIGHTS_UNSPECIFIED,
    Bucket,
    DescribePolicyRequest,
    ExtendRequest,
    ListReceivedRequest,
    ListSharesRequest,
    OpenRequest,
    Policy,
    PrepareShareRequest,
    PrepareShareResponse,
    Received,
    Recipient,
    RedeemRequest,
    RevokeRequest,
    SavePolicyRequest,
    SendCodeRequest,
    Share,
    ShareAgainRequest,
    ShareRequest,
    UnblockRequest,
)


@click.group()
def share() -> None:
    """Studies shown to others for a limited time, with the patient's consent."""


# What a sender sees


@dataclass(frozen=True, slots=True)
class Part:
    """One line of what was shared: a share's part for one recipient."""

    share: Share
    bucket: Bucket


_NAMED = 50
"""Cases of a list of shares that are named: each costs a call."""

BUCKET = (
    Column[Bucket]("recipient", lambda b: b.recipient_login),
    Column[Bucket]("rights", lambda b: RIGHTS.word(b.rights)),
    Column[Bucket]("state", lambda b: BUCKETS.word(b.state)),
    Column[Bucket]("ends_at", lambda b: instant(b.ends_at) if b.HasField("ends_at") else None),
    Column[Bucket]("two_factor", lambda b: b.two_factor),
    Column[Bucket]("wrong_codes", lambda b: b.wrong_codes, json_only=True),
    Column[Bucket]("opened_at", lambda b: instant(b.opened_at) if b.HasField("opened_at") else None),
    Column[Bucket]("allow_further_sharing", lambda b: b.allow_further_sharing, json_only=True),
    Column[Bucket]("bucket_id", lambda b: b.bucket_id),
)


async def share_table(readroom: Readroom, shares: Sequence[Share]) -> Table[Part]:
    """The columns of a part of a share, with names of what these shares show."""
    cases = await _cases_of(readroom, shares)
    name = await names.facility_name(readroom)

    def facility(part: Part) -> str:
        """Whoever may not list facilities knows the name from a case that they see."""
        known = (cases[each].facility_name for each in part.share.case_ids if each in cases)
        return next(known, "") or name(part.share.facility_id)

    def patients(part: Part) -> list[str]:
        found = (person(cases[each].patient_name) for each in part.share.case_ids if each in cases)
        return list(dict.fromkeys(filter(None, found)))

    def studies(part: Part) -> list[str]:
        """Day and description of the cases that the caller sees, and how many others there are."""
        seen = [cases[each] for each in part.share.case_ids if each in cases]
        said = [" ".join(filter(None, (day(c.study_date), c.study_description))) or "study" for c in seen]
        others = len(part.share.case_ids) - len(seen)
        return [*said, f"{others} that you do not see"] if others else said

    return (
        Column("shared_at", lambda p: instant(p.share.shared_at)),
        Column("facility", facility),
        Column("patients", patients),
        Column("studies", studies),
        Column("sender", lambda p: p.share.sender_login),
        *map(_of_part, BUCKET),
        Column("share_id", lambda p: p.share.share_id),
        Column("reason", lambda p: p.share.reason, json_only=True),
        Column("case_ids", lambda p: list(p.share.case_ids), json_only=True),
    )


async def _cases_of(readroom: Readroom, shares: Sequence[Share]) -> Mapping[str, Case]:
    """Of the newest shared cases those that the caller still sees, by id."""
    wanted = list(dict.fromkeys(each for share in shares for each in share.case_ids))[:_NAMED]
    fields = ["facility_name", "patient_name", "study_date", "study_description"]

    async def described(case_id: str) -> Case | None:
        request = DescribeCaseRequest(case_id=case_id, columns=fields)
        try:
            return (await readroom.access.DescribeCase(request)).case
        except (Denied, NotFound):
            return None

    found = await asyncio.gather(*map(described, wanted))
    return {case_id: case for case_id, case in zip(wanted, found, strict=True) if case is not None}


def _of_part(column: Column[Bucket]) -> Column[Part]:
    return Column(column.key, lambda part: column.value(part.bucket), column.json_only)


def parts(shares: Iterable[Share]) -> list[Part]:
    """A line for each recipient."""
    return [Part(each, bucket) for each in shares for bucket in each.buckets]


_to = click.option("--to", "logins", multiple=True, metavar="LOGIN", help="A recipient; may be repeated.")


def _said(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """`-` is read from standard input: what stands there shows in no `ps` and no history of a shell."""
    if value != "-":
        return value
    if context.meta.setdefault("readroom.stdin", parameter.name) != parameter.name:
        raise click.UsageError("standard input can be read for one option only", context)
    return sys.stdin.read().removesuffix("\n")


def _code(context: click.Context, parameter: click.Parameter, value: str | None) -> str:
    """A code that is left out is asked for, and not shown while it is typed."""
    code: str = click.prompt("Code", hide_input=True, err=True) if value is None else value
    return _said(context, parameter, code)


_CHOICES = (
    _to,
    click.option(
        "--rights",
        type=click.Choice(RIGHTS.sayable),
        help="What recipients may do with the report; they see the images.",
    ),
    click.option(
        "--reason",
        default="",
        callback=_said,
        help="Why; the recipients are not told.  [-: from standard input]",
    ),
    click.option("--patient-agreed", is_flag=True, help="The patient has agreed to this sharing."),
    click.option("--till", default="", metavar="YYYY-MM-DD", help="The last day.  [default: the facility's]"),
    click.option("--unlimited", is_flag=True, help="No last day, where the facility allows it."),
    click.option(
        "--two-factor/--no-two-factor",
        default=None,
        help="Ask each recipient for a one-time code.  [default: as last time]",
    ),
    click.option(
        "--send-mail/--no-send-mail",
        default=None,
        help="Send each recipient a mail.  [default: as last time]",
    ),
    click.option("--urgent", is_flag=True, help="Say in the subject of the mail that it is urgent."),
    click.option(
        "--message",
        default="",
        callback=_said,
        help="What the mail tells the recipients.  [-: from standard input]",
    ),
    click.option(
        "--language", type=click.Choice(LANGUAGES.sayable), help="Of the mail.  [default: most recipients']"
    ),
    click.option("--allow-further-sharing", is_flag=True, help="Let recipients share on."),
    click.option("--anonymize", is_flag=True, help="Hide the patient's name (not possible yet)."),
)


def _choices(command: Callable[..., None]) -> Callable[..., None]:
    """The options of a share, whatever is shared."""
    for option in reversed(_CHOICES):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Choices:
    """What a sender chose; what they did not is what their share begins with."""

    logins: Sequence[str]
    rights: str | None
    reason: str
    patient_agreed: bool
    till: str
    unlimited: bool
    two_factor: bool | None
    send_mail: bool | None
    urgent: bool
    message: str
    language: str | None
    allow_further_sharing: bool
    anonymize: bool

    async def prepared(self, readroom: Readroom, case_ids: Iterable[str]) -> PrepareShareResponse:
        """What a share of these cases to the chosen recipients begins with."""
        request = PrepareShareRequest(case_ids=case_ids, logins=self.logins)
        return await readroom.sharing.PrepareShare(request)

    def request(self, begins_with: PrepareShareResponse, case_ids: Sequence[str]) -> ShareRequest:
        two_factor = begins_with.two_factor if self.two_factor is None else self.two_factor
        send_mail = begins_with.send_mail if self.send_mail is None else self.send_mail
        return ShareRequest(
            case_ids=case_ids,
            recipients=[
                Recipient(login=login, two_factor=two_factor, send_mail=send_mail) for login in self.logins
            ],
            rights=RIGHTS.number(self.rights) if self.rights else RIGHTS_UNSPECIFIED,
            reason=self.reason,
            patient_agreed=self.patient_agreed,
            valid_till=self.till,
            unlimited=self.unlimited,
            urgent=self.urgent,
            anonymize=self.anonymize,
            message=self.message,
            language=LANGUAGES.number(self.language) if self.language else begins_with.language,
            allow_further_sharing=self.allow_further_sharing,
        )


PREPARED = (
    Column[PrepareShareResponse]("language", lambda p: LANGUAGES.word(p.language)),
    Column[PrepareShareResponse]("valid_till", lambda p: p.valid_till),
    Column[PrepareShareResponse]("valid_till_at_most", lambda p: p.valid_till_at_most or None),
    Column[PrepareShareResponse]("unlimited_allowed", lambda p: p.unlimited_allowed),
    Column[PrepareShareResponse]("two_factor", lambda p: p.two_factor),
    Column[PrepareShareResponse]("send_mail", lambda p: p.send_mail),
)


@share.command("prepare")
@click.argument("case_ids", nargs=-1, required=True, metavar="CASE_ID…")
@_to
@acting
async def prepare(
    readroom: Readroom, out: Output, case_ids: tuple[str, ...], logins: tuple[str, ...]
) -> None:
    """Show what a share of these cases begins with: language, validity, your last choices."""
    request = PrepareShareRequest(case_ids=case_ids, logins=logins)
    out.item(PREPARED, await readroom.sharing.PrepareShare(request))


@share.command("new")
@click.argument("case_ids", nargs=-1, required=True, metavar="CASE_ID…")
@_choices
@listing
async def new(readroom: Readroom, out: Output, case_ids: tuple[str, ...], **choices: object) -> None:
    """Share cases of one facility."""
    chosen = Choices(**choices)  # type: ignore[arg-type]
    prepared = await chosen.prepared(readroom, case_ids)
    shared = (await readroom.sharing.Share(chosen.request(prepared, case_ids))).share
    out.items(await share_table(readroom, [shared]), parts([shared]))


@share.command("again")
@click.argument("share_id")
@_choices
@listing
async def again(readroom: Readroom, out: Output, share_id: str, **choices: object) -> None:
    """Share the cases of an earlier share of yours with others."""
    chosen = Choices(**choices)  # type: ignore[arg-type]
    earlier = [each async for each in _shares(readroom) if each.share_id == share_id]
    if not earlier:
        raise NotFound(f"there is no share `{share_id}` of yours", field="share_id")
    prepared = await chosen.prepared(readroom, earlier[0].case_ids)
    request = ShareAgainRequest(share_id=share_id, share=chosen.request(prepared, ()))
    shared = (await readroom.sharing.ShareAgain(request)).share
    out.items(await share_table(readroom, [shared]), parts([shared]))


def _shares(readroom: Readroom, *, blocked_only: bool = False, case_id: str = "") -> AsyncIterator[Share]:
    request = ListSharesRequest(page_size=500, blocked_only=blocked_only, case_id=case_id)
    return every(readroom.sharing.ListShares, request, lambda page: page.shares)


@share.command("list")
@click.option("--blocked", is_flag=True, help="Only shares with a blocked part.")
@click.option(
    "--case", "case_id", default="", metavar="CASE_ID", help="Show only shares with this case in them."
)
@listing
async def list_shares(readroom: Readroom, out: Output, blocked: bool, case_id: str) -> None:
    """List your shares, and those of facilities whose shares you administer, newest first."""
    found = [each async for each in _shares(readroom, blocked_only=blocked, case_id=case_id)]
    out.items(await share_table(readroom, found), parts(found))


@share.command("revoke")
@click.argument("bucket_id", required=False)
@click.option("--share", "share_id", default="", metavar="SHARE_ID", help="Every part of this share.")
@acting
async def revoke(readroom: Readroom, out: Output, bucket_id: str | None, share_id: str) -> None:
    """End a part of a share, and everything that was shared on from it."""
    answer = await readroom.sharing.Revoke(RevokeRequest(bucket_id=bucket_id or "", share_id=share_id))
    ended = f"share {share_id}" if share_id else f"part {bucket_id} of the share"
    out.done(f"{ended} has ended", revision=answer.revision)


@share.command("extend")
@click.argument("bucket_id")
@click.option("--till", default="", metavar="YYYY-MM-DD", help="The new last day, later or earlier.")
@click.option("--unlimited", is_flag=True, help="No last day, where the facility allows it.")
@acting
async def extend(readroom: Readroom, out: Output, bucket_id: str, till: str, unlimited: bool) -> None:
    """Give a part of a share another last day."""
    request = ExtendRequest(bucket_id=bucket_id, valid_till=till, unlimited=unlimited)
    out.item(BUCKET, (await readroom.sharing.Extend(request)).bucket)


@share.command("unblock")
@click.argument("bucket_id")
@acting
async def unblock(readroom: Readroom, out: Output, bucket_id: str) -> None:
    """End the block that five wrong codes caused."""
    out.item(BUCKET, (await readroom.sharing.Unblock(UnblockRequest(bucket_id=bucket_id))).bucket)


# What a recipient sees

RECEIVED = (
    Column[Received]("shared_at", lambda r: instant(r.shared_at)),
    Column[Received]("sender_name", lambda r: r.sender_name),
    Column[Received]("rights", lambda r: RIGHTS.word(r.rights)),
    Column[Received]("ends_at", lambda r: instant(r.ends_at) if r.HasField("ends_at") else None),
    Column[Received]("code_needed", lambda r: r.code_needed),
    Column[Received]("blocked", lambda r: r.blocked),
    Column[Received]("case_ids", lambda r: list(r.case_ids)),
    Column[Received]("message", lambda r: r.message or None),
    Column[Received]("bucket_id", lambda r: r.bucket_id),
    Column[Received]("sender_login", lambda r: r.sender_login, json_only=True),
    Column[Received]("allow_further_sharing", lambda r: r.allow_further_sharing, json_only=True),
)


@share.command("received")
@listing
async def list_received(readroom: Readroom, out: Output) -> None:
    """List what was shared with you and has not ended, newest first."""
    request = ListReceivedRequest(page_size=500)
    found = every(readroom.sharing.ListReceived, request, lambda page: page.received)
    out.items(RECEIVED, [received async for received in found])


@share.command("open")
@click.argument("link")
@acting
async def open_link(readroom: Readroom, out: Output, link: str) -> None:
    """Open what the LINK of a mail names; the whole address or its last part."""
    request = OpenRequest(link=link.rpartition("/")[2])
    out.item(RECEIVED, (await readroom.sharing.Open(request)).received)


@share.command("code")
@click.argument("bucket_id")
@acting
async def send_code(readroom: Readroom, out: Output, bucket_id: str) -> None:
    """Have a one-time code sent to your registered number."""
    answer = await readroom.sharing.SendCode(SendCodeRequest(bucket_id=bucket_id))
    until = instant(answer.ends_at)
    out.done(
        f"the code was sent by text message; it is valid until {until:%H:%M:%S} UTC",
        bucket_id=bucket_id,
        ends_at=until,
    )


@share.command("redeem")
@click.argument("bucket_id")
@click.argument("code", required=False, callback=_code)
@acting
async def redeem(readroom: Readroom, out: Output, bucket_id: str, code: str) -> None:
    """Enter the code; the fifth wrong one in succession blocks your part of the share.

    It is asked for if it is left out, and read from standard input for `-`.
    """
    request = RedeemRequest(bucket_id=bucket_id, code=code)
    out.item(RECEIVED, (await readroom.sharing.Redeem(request)).received)


# What a facility allows


@share.group()
def policy() -> None:
    """What a sending facility allows."""


async def policy_table(readroom: Readroom) -> Table[Policy]:
    """The columns of a policy."""
    name = await names.facility_name(readroom)
    return (
        Column("facility", lambda p: name(p.facility_id)),
        Column("default_days", lambda p: p.default_days or None),
        Column("maximum_days", lambda p: p.maximum_days or None),
        Column("unlimited_allowed", lambda p: p.unlimited_allowed),
        Column("further_sharing_allowed", lambda p: p.further_sharing_allowed),
        Column("facility_id", lambda p: p.facility_id, json_only=True),
        Column("version", lambda p: p.version, json_only=True),
    )


async def _policy(readroom: Readroom, facility: str) -> Policy:
    request = DescribePolicyRequest(facility_id=await names.facility_id(readroom, facility))
    return (await readroom.sharing.DescribePolicy(request)).policy


@policy.command("show")
@click.argument("facility")
@acting
async def show_policy(readroom: Readroom, out: Output, facility: str) -> None:
    """Show the rules of FACILITY; without default days a share lasts one month."""
    out.item(await policy_table(readroom), await _policy(readroom, facility))


@policy.command("set")
@click.argument("facility")
@click.option("--default-days", type=click.IntRange(min=0), help="0: one month.")
@click.option("--maximum-days", type=click.IntRange(min=0), help="0: any; otherwise nothing is unlimited.")
@click.option("--unlimited/--no-unlimited", default=None, help="Whether unlimited access may be chosen.")
@click.option("--further-sharing/--no-further-sharing", default=None, help="Whether anybody may share on.")
@click.option(
    "--version",
    type=int,
    help="The version you looked at; if somebody changed it since, nothing is saved.  [default: the newest]",
)
@acting
async def set_policy(
    readroom: Readroom,
    out: Output,
    facility: str,
    default_days: int | None,
    maximum_days: int | None,
    unlimited: bool | None,
    further_sharing: bool | None,
    version: int | None,
) -> None:
    """Change the rules of FACILITY; what is not named stays."""
    wanted = await _policy(readroom, facility)
    wanted.version = wanted.version if version is None else version
    changes = {
        "default_days": default_days,
        "maximum_days": maximum_days,
        "unlimited_allowed": unlimited,
        "further_sharing_allowed": further_sharing,
    }
    named = {field: value for field, value in changes.items() if value is not None}
    if not named:
        raise Invalid("nothing is changed: name at least one option")
    for field, value in named.items():
        setattr(wanted, field, value)
    saved = await readroom.sharing.SavePolicy(SavePolicyRequest(policy=wanted))
    out.item(await policy_table(readroom), saved.policy)


COMMANDS = (share,)
