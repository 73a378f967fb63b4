"""Step 7: a study is shared with two physicians outside: mails, codes, a block, a revocation, an end."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, timedelta
from pathlib import Path

from demo import comparing
from demo.cast import BRANDT, CENTRAL, CT, ENDPOINT, MOOR, MULDER, OKAFOR, OUTSIDE, VOS, Person
from demo.reading import LAST, LOOK, Obtained, refusal
from demo.setting import create_user
from demo.world import World, told_time
from kernel.errors import Denied, Exhausted, Invalid, NotFound
from readroom.fetch import fetch_case
from readroom.meter import bar
from readroom.pages import every
from readroom.received import Mail, Text, mails, shown, texts
from readroom.words import BUCKETS, LANGUAGES
from wire.access.v1.access_pb2 import LANGUAGE_DE, Case
from wire.sharing.v1.sharing_pb2 import (
    RIGHTS_READ_REPORT,
    RIGHTS_UNSPECIFIED,
    Bucket,
    ListReceivedRequest,
    ListSharesRequest,
    OpenRequest,
    PrepareShareRequest,
    Received,
    Recipient,
    RedeemRequest,
    RevokeRequest,
    SendCodeRequest,
    ShareRequest,
    UnblockRequest,
)

MESSAGE = "Bitte um Ihre Meinung zum Rundherd."
REASON = "second opinion before surgery"
BETWEEN_CODES = timedelta(seconds=30)
"""SEC-10."""

LINK = re.compile(r"[\w-]{43}(?![\w-])")
CODE = re.compile(r"\b\d{6}\b")


async def share(world: World, case: Case) -> None:
    """The seventh step of the story."""
    for person in (*OUTSIDE, MOOR):
        await create_user(world, person)
    await what_is_refused(world, case)
    buckets, link = await share_with_two(world, case)
    await one_redeems(world, case, buckets[BRANDT.login], link)
    await one_is_blocked(world, case, buckets[MULDER.login])
    await one_is_revoked(world, case, buckets[MULDER.login])
    await the_last_day_passes(world, case, buckets[BRANDT.login])


def wanted(case: Case, people: Sequence[Person] = OUTSIDE, **changes: object) -> ShareRequest:
    """What Vos asks for, but for the changes."""
    request = ShareRequest(
        case_ids=[case.case_id],
        recipients=[Recipient(login=p.login, two_factor=True, send_mail=True) for p in people],
        rights=RIGHTS_READ_REPORT,
        reason=REASON,
        patient_agreed=True,
        urgent=True,
        message=MESSAGE,
        language=LANGUAGE_DE,
    )
    for field, value in changes.items():
        setattr(request, field, value)
    return request


async def what_is_refused(world: World, case: Case) -> None:
    """SHR-8, SHR-13, SHR-14, SHR-19, A58: each refusal names its field."""
    tries: Mapping[str, ShareRequest] = {
        "patient_agreed": wanted(case, patient_agreed=False),
        "reason": wanted(case, reason=" "),
        "rights": wanted(case, rights=RIGHTS_UNSPECIFIED),
        "anonymize": wanted(case, anonymize=True),
        "two_factor": wanted(case, [OKAFOR]),
    }
    vos = await world.acting_as(VOS.login)
    for field, request in tries.items():
        refused = await refusal(vos.sharing.Share(request))
        world.stage.check(
            isinstance(refused, Invalid) and field in (refused.field or ""), f"refused, `{field}`: {refused}"
        )


async def share_with_two(world: World, case: Case) -> tuple[dict[str, Bucket], str]:
    """SHR-9 … SHR-18, A48, A52: a bucket and a mail for each of the two; answers the first's link."""
    vos = await world.acting_as(VOS.login)
    request = PrepareShareRequest(case_ids=[case.case_id], logins=[p.login for p in OUTSIDE])
    prepared = await vos.sharing.PrepareShare(request)
    world.stage.check(
        prepared.language == LANGUAGE_DE,
        f"a share with the two begins in `{LANGUAGES.word(prepared.language)}`, until {prepared.valid_till}",
    )
    for person in OUTSIDE:
        world.stage.check(not await world.worklist(person.login), f"{person.name} sees nothing yet")

    shared = (await vos.sharing.Share(wanted(case))).share
    buckets = {bucket.recipient_login: bucket for bucket in shared.buckets}
    world.stage.check(
        buckets.keys() == {p.login for p in OUTSIDE}
        and {b.state for b in buckets.values()} == {Bucket.STATE_ACTIVE},
        f"{VOS.name} shares it with {' and '.join(p.name for p in OUTSIDE)}, each with a code",
    )
    links = []
    for person in OUTSIDE:
        mail = await the_mail(world, person)
        links += LINK.findall(mail.text)
        for line in shown(mail):
            world.stage.tell(line)
        told = mail.message.as_string() + mail.text + mail.html
        world.stage.check(
            not about_patient(told) and REASON not in told and MESSAGE in mail.text,
            "of the patient it holds initials, of the study description and date, and the message",
        )
    return buckets, links[0]


def inbox(world: World, person: Person) -> list[Mail]:
    """What the person has received, oldest first."""
    return [mail for mail in mails(world.endpoints) if mail.to == person.email]


async def the_mail(world: World, person: Person, before: int = 0) -> Mail:
    """The one mail that the person has received since there were so many."""

    async def received() -> Mail | None:
        found = inbox(world, person)[before:]
        return found[0] if len(found) == 1 else None

    return await world.stage.until(received, f"{person.name} receives a mail")


async def the_code(world: World, person: Person, bucket_id: str) -> str:
    """Has a code sent, and answers it."""
    before = len(texts(world.endpoints))
    readroom = await world.acting_as(person.login)
    await readroom.sharing.SendCode(SendCodeRequest(bucket_id=bucket_id))

    async def received() -> Text | None:
        found = texts(world.endpoints)[before:]
        return found[0] if found and found[0].to == person.mobile_number else None

    text = await world.stage.until(received, f"{person.name} receives a text message")
    world.stage.tell(text.text)
    codes = CODE.findall(text.text)
    world.stage.check(
        len(codes) == 1 and not about_patient(text.text), "it holds the code, and nothing of the study"
    )
    return str(codes[0])


def about_patient(text: str) -> bool:
    """Whether it says more of the patient or the study than a mail may."""
    return any(word in text for word in (*CT.patient_name.split("^"), CT.patient_id, CT.study_instance_uid))


def other(code: str, by: int) -> str:
    """Another code."""
    return f"{(int(code) + by) % 1_000_000:06}"


async def redeem(world: World, person: Person, bucket_id: str, code: str) -> Received:
    readroom = await world.acting_as(person.login)
    return (await readroom.sharing.Redeem(RedeemRequest(bucket_id=bucket_id, code=code))).received


async def wrong_codes(world: World, person: Person, bucket_id: str, code: str, count: int) -> None:
    refused = [await refusal(redeem(world, person, bucket_id, other(code, by))) for by in range(1, count + 1)]
    world.stage.check(all(refused), f"{person.name} enters {count} wrong codes: {refused[-1]}")


async def one_redeems(world: World, case: Case, bucket: Bucket, link: str) -> None:
    """SEC-9, SEC-11, A41, A56, A57: link, login and code together, and only in this login session."""
    brandt, mulder = [await world.acting_as(person.login) for person in OUTSIDE]
    unknown, foreign = [
        await refusal(mulder.sharing.Open(OpenRequest(link=text))) for text in (link[::-1], link)
    ]
    world.stage.check(
        isinstance(foreign, NotFound) and str(foreign) == str(unknown),
        f"to {MULDER.name} her link is as any link: {foreign}",
    )
    opened = (await brandt.sharing.Open(OpenRequest(link=link))).received
    world.stage.check(
        opened.bucket_id == bucket.bucket_id and opened.code_needed and not opened.case_ids,
        f"{BRANDT.name} opens it: a code is needed, and no case is named before it",
    )
    world.stage.check(not await world.worklist(BRANDT.login), "nor is one on her worklist")

    code = await the_code(world, BRANDT, bucket.bucket_id)
    await wrong_codes(world, BRANDT, bucket.bucket_id, code, 4)
    redeemed = await redeem(world, BRANDT, bucket.bucket_id, code)
    world.stage.check(
        list(redeemed.case_ids) == [case.case_id] and not redeemed.code_needed, "the fifth is the right one"
    )
    await fetches(world, BRANDT, case)
    written = [entry.text for entry in (await Obtained.by(world, BRANDT, case.study_instance_uid)).entries]
    world.stage.check(LAST in written and LOOK not in written, "she reads the final report, and no pre-read")


async def fetches(world: World, person: Person, case: Case) -> None:
    """What the share shows is what the modality sent."""
    folder = world.folder / "fetched" / person.login
    with bar(f"   {person.login} fetches", world.stage.console) as meter:
        paths = await fetch_case(await world.acting_as(person.login), case.case_id, folder, meter)
    sent = world.sent(CENTRAL.name)
    same = await asyncio.to_thread(all_the_same, paths, sent)
    world.stage.check(
        len(paths) == CT.slices and same, f"{person.name} fetches {len(paths)} images, to the byte as sent"
    )


def all_the_same(paths: list[Path], sent: Path) -> bool:
    """Whether each file is what the modality put on the wire."""
    return all(comparing.same_bytes(path, sent / path.name) for path in paths)


async def one_is_blocked(world: World, case: Case, bucket: Bucket) -> None:
    """A41, A42: the fifth wrong code blocks this bucket alone; only the sending side ends that."""
    code = await the_code(world, MULDER, bucket.bucket_id)
    await wrong_codes(world, MULDER, bucket.bucket_id, code, 5)
    refused = await refusal(redeem(world, MULDER, bucket.bucket_id, code))
    world.stage.check(refused, f"now even the right one is refused: {refused}")
    world.stage.check(
        (await as_sent(world, bucket)).state == Bucket.STATE_BLOCKED
        and await world.case(BRANDT.login, case.study_instance_uid),
        f"{MULDER.name}'s part is blocked; {BRANDT.name}'s is not",
    )
    unblock = UnblockRequest(bucket_id=bucket.bucket_id)
    own = await refusal((await world.acting_as(MULDER.login)).sharing.Unblock(unblock))
    world.stage.check(isinstance(own, Denied | NotFound), f"{MULDER.name} cannot end that: {own}")
    unblocked = (await (await world.acting_as(MOOR.login)).sharing.Unblock(unblock)).bucket
    world.stage.check(unblocked.state == Bucket.STATE_ACTIVE, f"{MOOR.name} of `{ENDPOINT}` does")
    too_soon = await refusal(the_code(world, MULDER, bucket.bucket_id))
    world.stage.check(isinstance(too_soon, Exhausted), f"another code is refused at first: {too_soon}")
    world.move_clock(world.now() + BETWEEN_CODES)
    await redeem(world, MULDER, bucket.bucket_id, await the_code(world, MULDER, bucket.bucket_id))
    world.stage.check(
        await world.case(MULDER.login, case.study_instance_uid),
        f"half a minute later {MULDER.name} sees the study",
    )


async def as_sent(world: World, bucket: Bucket) -> Bucket:
    """How it stands now, as its sender sees it."""
    vos = await world.acting_as(VOS.login)
    shares = every(vos.sharing.ListShares, ListSharesRequest(), lambda page: page.shares)
    found: dict[str, Bucket] = {b.bucket_id: b async for share in shares for b in share.buckets}
    return found[bucket.bucket_id]


async def one_is_revoked(world: World, case: Case, bucket: Bucket) -> None:
    """A revocation is felt by the very next call."""
    vos, mulder = [await world.acting_as(person.login) for person in (VOS, MULDER)]
    await vos.sharing.Revoke(RevokeRequest(bucket_id=bucket.bucket_id))
    seen = await world.case(MULDER.login, case.study_instance_uid)
    with bar("   mulder fetches", world.stage.console) as meter:
        refused = await refusal(fetch_case(mulder, case.case_id, world.folder / "revoked", meter))
    received = await mulder.sharing.ListReceived(ListReceivedRequest())
    world.stage.check(
        seen is None and isinstance(refused, NotFound) and not received.received,
        f"{VOS.name} revokes {MULDER.name}'s part, and it is gone at once: {refused}",
    )


async def the_last_day_passes(world: World, case: Case, bucket: Bucket) -> None:
    """A2: valid through 24:00 of the last day in the sending facility's time zone, to the instant."""
    ends_at = bucket.ends_at.ToDatetime(UTC)
    for moment, sees in ((ends_at - timedelta(minutes=1), True), (ends_at, False)):
        world.move_clock(moment)
        seen = await world.case(BRANDT.login, case.study_instance_uid)
        world.stage.check(
            bool(seen) == sees,
            f"when it is {told_time(moment)} {BRANDT.name} {'still sees' if sees else 'no longer sees'} it",
        )

    async def expired() -> bool:
        return (await as_sent(world, bucket)).state == Bucket.STATE_EXPIRED

    await world.stage.until(expired, f"her part is `{BUCKETS.word(Bucket.STATE_EXPIRED)}`")
