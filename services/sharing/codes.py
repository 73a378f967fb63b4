"""One-time codes: a recipient asks for one, enters it, and after five wrong ones in succession is blocked.

A try is counted, and the count committed, before the code is compared. So a failure in between, or any
number of tries at once, gives nobody a sixth (A41).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from kernel.database import Database
from kernel.errors import (
    Conflict,
    Denied,
    Exhausted,
    Expired,
    Invalid,
    NotFound,
    ReadroomError,
    Unavailable,
    lacks,
)
from kernel.events import ShareBlocked
from kernel.ids import BucketId, CaseId, NewId
from kernel.language import Language
from kernel.reach import Reach
from services.sharing import asking, inbox
from services.sharing.asking import BATCH, SHARE_ADMIN, Telling, active_user, owners_of
from services.sharing.domain import (
    CASES_FACILITY,
    Act,
    ActiveUser,
    Bucket,
    Received,
    Share,
    State,
    no_bucket,
)
from services.sharing.inbox import as_seen, open_bucket
from services.sharing.otp import (
    FORGOTTEN_AT_ONCE,
    JUDGED_WITHIN,
    LIFE,
    MAX_WRONG_CODES,
    REMEMBERED,
    Code,
    Pepper,
    RandBelow,
    Redeemed,
    Tries,
    Verdict,
    checked_code,
    new_code,
    next_text_at,
)

if TYPE_CHECKING:
    from services.sharing.store import SharingTransaction

OPERATOR = "operator"

MAX_SESSION_CHARACTERS = 128


class Access(inbox.Seeing, asking.Owning, asking.Describing, Protocol):
    """The service access: the first on behalf of the acting user, as is what it shows them."""

    async def reach(self, permission: str) -> Reach: ...
    async def register(self, redeemed: Redeemed) -> Collection[CaseId] | None:
        """Lets a bucket give sight in a login session of its recipient (A57); answers which cases they see.

        None: it does not say.

        Raises Expired if the code went to a contact that has changed since.
        """
        ...


class Texts(Protocol):
    """Hands a text with a code over, now or not at all."""

    async def send(self, mobile_number: str, code: str, language: Language) -> None:
        """Raises Conflict, or Invalid and Denied for the number, if it surely was not sent; after any other
        error nobody knows."""
        ...


class Codes:
    """What recipients do with codes, and who ends a block."""

    def __init__(
        self,
        database: Database[SharingTransaction],
        access: Access,
        texts: Texts,
        telling: Telling,
        pepper: Pepper,
        rand_below: RandBelow,
        new_id: NewId,
    ) -> None:
        self._database = database
        self._access = access
        self._texts = texts
        self._telling = telling
        self._pepper = pepper
        self._rand_below = rand_below
        self._new_id = new_id

    # Sending

    async def send_code(self, actor: str, session: str, bucket_id: BucketId) -> datetime:
        """Sends a code to the actor's registered number; answers until when it can be used.

        The text counts before it is sent, and is taken back only if it surely was not. The code can be used
        only once the text gateway has taken it, and until then the one before can: whatever fails, no text
        goes uncounted and no unsent code works.
        """
        _check_session(session)
        async with self._database.audited(actor, "code.sent", f"bucket:{bucket_id}"):
            user = await active_user(self._access, actor)
            redeemed = Redeemed(bucket_id, session, user.contact_version)
            async with self._database.transaction() as transaction:
                await _lacks_code(transaction, actor, redeemed)
            if not user.mobile_number:
                raise Conflict(
                    "you have no registered mobile number, so no code can be sent: ask your administrator "
                    "to add one"
                )
            text_id, created_at = await self._count_text(actor, redeemed, user.mobile_number)
            code = new_code(self._rand_below)
            try:
                await self._texts.send(user.mobile_number, code, user.language)
            except Conflict as error:
                await self._take_back(actor, bucket_id, text_id)
                raise Unavailable("the text message could not be sent: try again") from error
            except (Invalid, Denied) as error:
                await self._take_back(actor, bucket_id, text_id)
                raise Denied(
                    "we cannot send a text message to your registered number: ask your administrator to "
                    "correct it"
                ) from error
            except ReadroomError as error:
                raise Unavailable("we do not know whether the text message was sent: try again") from error
            digest = self._pepper.of_code(bucket_id, session, code)
            await self._keep(actor, Code(bucket_id, session, digest, created_at, user.contact_version))
        return created_at + LIFE

    async def _count_text(self, actor: str, redeemed: Redeemed, mobile_number: str) -> tuple[UUID, datetime]:
        bucket_id, number_digest = redeemed.bucket_id, self._pepper.of_number(mobile_number)
        async with self._database.transaction() as transaction:
            await _lacks_code(transaction, actor, redeemed)
            await transaction.lock_number(number_digest)
            now = transaction.now
            sent = await transaction.texts_sent(bucket_id, number_digest, now - REMEMBERED)
            waits = [at - now for at in (next_text_at(each, now) for each in sent) if at]
            if waits:
                wait_s = math.ceil(max(waits).total_seconds())
                raise Exhausted(f"you asked for too many codes: try again in {wait_s} s")
            text_id = self._new_id()
            await transaction.insert_text(text_id, bucket_id, number_digest, now)
        return text_id, now

    async def _take_back(self, actor: str, bucket_id: BucketId, text_id: UUID) -> None:
        """A text that was not sent does not count; if this fails too, it does."""
        with suppress(Unavailable):
            async with self._database.transaction() as transaction:
                await transaction.delete_text(text_id)
                await transaction.record(actor, "code.unsent", f"bucket:{bucket_id}", "refused")

    async def _keep(self, actor: str, code: Code) -> None:
        async with self._database.transaction() as transaction:
            redeemed = Redeemed(code.bucket_id, code.session, code.contact_version)
            await _lacks_code(transaction, actor, redeemed)
            held = await transaction.code(code.bucket_id, code.session)
            if held is None or held.created_at <= code.created_at:
                await transaction.save_code(code)
            await transaction.record(actor, "code.sent", f"bucket:{code.bucket_id}", "done")

    # Entering

    async def redeem(self, actor: str, session: str, bucket_id: BucketId, guess: str) -> Received:
        """Compares a code; the right one opens the bucket in this login session (A57).

        It opens nothing if it went to a contact that has changed since: access compares, and knows.
        """
        checked_code(guess)
        _check_session(session)
        async with self._database.audited(actor, "code.redeemed", f"bucket:{bucket_id}"):
            user = await active_user(self._access, actor)
            redeemed = Redeemed(bucket_id, session, user.contact_version)
            refusal = None
            if await self._count_try(actor, redeemed, guess):
                refusal = await self._judge(actor, redeemed, guess)
            shown = None
            if refusal is None:
                refusal, shown = await self._register(actor, redeemed)
        if refusal is not None:
            raise refusal
        return await self._open(user, redeemed, shown)

    async def _open(self, user: ActiveUser, redeemed: Redeemed, shown: Collection[CaseId] | None) -> Received:
        """What access has accepted, and shows."""
        async with self._database.transaction() as transaction:
            await transaction.accept_session(redeemed)
            received = await transaction.received_bucket(redeemed.bucket_id, user, redeemed.session)
            if received is not None and shown is not None:
                seen = received if received.withheld else received.with_cases(shown)
                return await open_bucket(transaction, seen)
        if received is None:
            raise no_bucket()
        (received,) = await as_seen(self._access, [received])
        async with self._database.transaction() as transaction:
            return await open_bucket(transaction, received)

    async def _count_try(self, actor: str, redeemed: Redeemed, guess: str) -> bool:
        """Counts a try; answers whether there is anything to judge, or only to tell access.

        While the bucket is blocked it refuses any, and takes as long for a right one.
        """
        bucket_id = redeemed.bucket_id
        async with self._database.transaction() as transaction:
            bucket = await _own(transaction, actor, bucket_id)
            tries = (await transaction.tries(bucket_id)).settled(transaction.now)
            may_try = bucket.state is State.ACTIVE and tries.is_room
            if may_try:
                if await transaction.session_accepted(redeemed) is False:
                    return False
                await _needs_code(transaction, bucket, redeemed)
                await transaction.save_tries(bucket_id, tries.count(transaction.now))
        if not may_try:
            self._pepper.judge(None, redeemed, guess, transaction.now)
            raise _blocked()
        return True

    async def _judge(self, actor: str, redeemed: Redeemed, guess: str) -> ReadroomError | None:
        """Compares a try that has been counted, and writes down what it was; answers its refusal."""
        bucket_id, session = redeemed.bucket_id, redeemed.session
        object_ = f"bucket:{bucket_id}"
        async with self._database.transaction() as transaction:
            bucket = await _own(transaction, actor, bucket_id)
            if bucket.state is not State.ACTIVE:
                self._pepper.judge(None, redeemed, guess, transaction.now)
                raise _blocked()
            code = await transaction.code(bucket_id, session)
            verdict = self._pepper.judge(code, redeemed, guess, transaction.now)
            tries = await transaction.tries(bucket_id)
            if await transaction.session_accepted(redeemed) is not None:  # twice at once
                await transaction.save_tries(bucket_id, tries.uncounted())
                await transaction.record(actor, "code.redeemed", object_, "refused")
                return _entered()
            tries = tries.after(verdict)
            await transaction.save_tries(bucket_id, tries)
            match verdict:
                case Verdict.RIGHT:
                    await transaction.delete_code(bucket_id, session)
                    await transaction.insert_session(redeemed)
                    await transaction.record(actor, "code.redeemed", object_, "done")
                    return None
                case Verdict.OUTDATED:
                    await transaction.delete_code(bucket_id, session)
                    await transaction.record(actor, "code.outdated", object_, "refused")
                    return _outdated()
                case Verdict.EXPIRED:
                    assert code is not None
                    await transaction.save_code(replace(code, lapsed=True))
                    await transaction.record(actor, "code.expired", object_, "refused")
                    return Expired("the code has expired: ask for another one", field="code")
            await transaction.record(actor, "code.wrong", object_, "refused", in_succession=tries.wrong)
            if not tries.block:
                more = MAX_WRONG_CODES - tries.wrong
                return Denied(f"the code is wrong: after {more} more the share is blocked", field="code")
            blocked = await _block(transaction, actor, bucket, tries)
        with suppress(ReadroomError):  # then it is repeated until access has accepted it
            await self._telling.tell([blocked])
        return Denied(
            "the code is wrong, for the fifth time in succession: the share is blocked; an administrator "
            "of the sending facility can unblock it",
            field="code",
        )

    async def _register(
        self, actor: str, redeemed: Redeemed
    ) -> tuple[ReadroomError | None, Collection[CaseId] | None]:
        """Why access does not take the session, and which cases it shows in it, as far as it says."""
        try:
            return None, await self._access.register(redeemed)
        except NotFound:  # it has ended meanwhile
            return None, None
        except Expired:  # the contact has changed meanwhile
            async with self._database.transaction() as transaction:
                await transaction.forget_session(redeemed)
                await transaction.record(actor, "code.outdated", f"bucket:{redeemed.bucket_id}", "refused")
            return _outdated(), None
        except Unavailable as error:
            raise Unavailable("the code was right, but the share does not open yet: try again") from error

    # Unblocking

    async def unblock(self, actor: str, bucket_id: BucketId) -> tuple[Share, Bucket]:
        """Ends a block and begins to count anew; codes from before are void.

        An operator may, and who administers shares at the facility of its cases; nobody for themself (A42).
        To anybody else who has not sent it, it is the same as an absent one.
        """
        async with self._database.audited(actor, "share.unblocked", f"bucket:{bucket_id}"):
            is_operator = (await self._access.reach(OPERATOR)).everywhere
            reach = await self._access.reach(SHARE_ADMIN)
            async with self._database.transaction() as transaction:
                shared = await transaction.share_of(bucket_id)
            owners = await owners_of(self._access, shared)
            if shared is None:
                raise no_bucket()
            if shared.bucket(bucket_id).recipient_login == actor:
                raise Denied(
                    "you cannot unblock a share that was sent to you: "
                    "ask an administrator of the sending facility"
                )
            if not (is_operator or all(each in reach for each in owners)):
                raise lacks(SHARE_ADMIN, at=CASES_FACILITY) if shared.sender_login == actor else no_bucket()
            async with self._database.transaction() as transaction:
                locked = await transaction.lock_buckets([bucket_id])
                share = await transaction.share_of(bucket_id)
                if share is None:  # deleted meanwhile
                    raise no_bucket()
                bucket = locked[0].after(Act.UNBLOCK, transaction.now)
                await transaction.save_buckets([bucket])
                await transaction.save_tries(bucket_id, Tries())
                await transaction.delete_codes(bucket_id)
                await transaction.record(actor, "share.unblocked", f"bucket:{bucket_id}", "done")
        await self._telling.tell([bucket])
        return share, bucket


class CodeRepairs:
    """What happens without anybody asking: the clock, and what a crash or a failing access left behind."""

    def __init__(self, database: Database[SharingTransaction], access: Access) -> None:
        self._database = database
        self._access = access

    async def lapse(self) -> int:
        """Records which codes have expired, and forgets texts that count no more (R11)."""
        async with self._database.transaction() as transaction:
            await transaction.lapse_codes(transaction.now - LIFE)
            await transaction.forget_texts(transaction.now - REMEMBERED, FORGOTTEN_AT_ONCE)
        return 0

    async def block(self) -> int:
        """Blocks what five tries have left, where the judging of one of them failed."""
        async with self._database.transaction() as transaction:
            now = transaction.now
            blocked = 0
            for bucket in await transaction.lock_buckets(
                await transaction.out_of_tries(now - JUDGED_WITHIN, BATCH)
            ):
                tries = (await transaction.tries(bucket.id)).settled(now)
                if bucket.stands(now) is State.ACTIVE and tries.block:
                    await _block(transaction, "service:sharing", bucket, tries)
                    blocked += 1
        return blocked

    async def unregistered(self) -> Sequence[Redeemed]:
        """Login sessions that access has not accepted yet."""
        async with self._database.transaction() as transaction:
            return await transaction.sessions_to_tell(BATCH)

    async def register(self, redeemed: Redeemed) -> None:
        """Tells access of one of them."""
        is_outdated = False
        try:
            _ = await self._access.register(redeemed)  # nobody waits to be shown anything
        except Expired:
            is_outdated = True
        except (NotFound, Invalid):  # refused for good
            pass
        async with self._database.transaction() as transaction:
            settle = transaction.forget_session if is_outdated else transaction.accept_session
            await settle(redeemed)


def _check_session(session: str) -> None:
    """As access takes it, so that no code is redeemed where it cannot open anything."""
    if not 1 <= len(session) <= MAX_SESSION_CHARACTERS or not session.isprintable():
        raise Invalid(f"the login session must be 1 to {MAX_SESSION_CHARACTERS} printable characters")


async def _own(transaction: SharingTransaction, actor: str, bucket_id: BucketId) -> Bucket:
    """The actor's bucket, locked. One of somebody else, or that has ended, is the same as an absent one."""
    if not await transaction.is_recipient(bucket_id, actor):
        raise no_bucket()
    for bucket in await transaction.lock_buckets([bucket_id]):
        if bucket.stands(transaction.now) in (State.ACTIVE, State.BLOCKED):
            return bucket
    raise no_bucket()


async def _needs_code(transaction: SharingTransaction, bucket: Bucket, redeemed: Redeemed) -> None:
    """Refuses where there is nothing that a code would open."""
    if not bucket.two_factor:
        raise Conflict("the share asks for no code")
    if await transaction.session_accepted(redeemed) is not None:
        raise _entered()


async def _lacks_code(transaction: SharingTransaction, actor: str, redeemed: Redeemed) -> None:
    """Refuses to send a code for what is not the actor's, is blocked, or needs none."""
    bucket = await _own(transaction, actor, redeemed.bucket_id)
    if bucket.state is State.BLOCKED or not (await transaction.tries(bucket.id)).is_room:
        raise _blocked()
    await _needs_code(transaction, bucket, redeemed)


async def _block(transaction: SharingTransaction, actor: str, bucket: Bucket, tries: Tries) -> Bucket:
    """The fifth wrong code in succession (SHR-9)."""
    blocked = replace(bucket.after(Act.BLOCK, transaction.now), wrong_codes=tries.wrong)
    await transaction.save_buckets([blocked])
    await transaction.save_tries(bucket.id, tries)
    await transaction.say(ShareBlocked(blocked.id, blocked.version))
    await transaction.record(actor, "share.blocked", f"bucket:{bucket.id}", "done")
    return blocked


def _entered() -> Conflict:
    return Conflict("a code was entered in this login session already")


def _outdated() -> Expired:
    return Expired("the code was sent to an earlier contact of yours: ask for another code", field="code")


def _blocked() -> Denied:
    return Denied(
        "the share is blocked after five wrong codes: an administrator of the sending facility can unblock it"
    )
