"""What sharing does with buckets, and what it is told of cases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from kernel.database import Database
from kernel.errors import Conflict, Expired, Invalid
from kernel.events import SightChanged
from kernel.ids import BucketId, CaseId, FacilityId
from services.access.buckets import (
    MAX_CASES,
    MAX_CHANGES,
    MAX_SESSION_CHARACTERS,
    Act,
    Bucket,
    Grant,
    Share,
    Standing,
    Terms,
    Then,
    changed,
    known_grant,
    known_standing,
    must_be_at,
    must_be_granted,
    must_end_later_than,
    must_receive,
    must_share,
    no_bucket,
    then,
)
from services.access.describedcases import DescribedCase
from services.access.domain import CompiledUser, must_be_active
from services.access.names import acting_login, possible_logins

if TYPE_CHECKING:
    from services.access.store import AccessTransaction


class Buckets:
    """Grants and changes buckets for sharing, and describes cases to whoever shares and mails them."""

    def __init__(self, database: Database[AccessTransaction]) -> None:
        self._database = database

    async def grant_buckets(self, login: str, session: str, share: Share) -> tuple[FacilityId, int]:
        """Opens the buckets of a share; answers the facility that owns the cases, and the revision.

        Again with the same content it answers the same; so a lost answer does no harm.
        """
        object_ = f"bucket:{share.grants[0].bucket_id}"
        bucket_ids = [grant.bucket_id for grant in share.grants]
        async with self._audited(login, "buckets.granted", object_, bucket_ids) as transaction:
            return await self._grant(transaction, login, session, share, object_)

    @asynccontextmanager
    async def _audited(
        self, login: str, action: str, object_: str, bucket_ids: Collection[BucketId]
    ) -> AsyncIterator[AccessTransaction]:
        """A transaction in which nobody else says anything of the buckets; a refusal is audited."""
        async with (
            self._database.audited(login, action, object_, reason=True),
            self._holding(bucket_ids) as transaction,
        ):
            yield transaction

    @asynccontextmanager
    async def _holding(self, bucket_ids: Collection[BucketId]) -> AsyncIterator[AccessTransaction]:
        async with self._database.transaction() as transaction:
            await transaction.hold_rights()
            await transaction.hold_buckets(bucket_ids)
            yield transaction

    async def _grant(
        self, transaction: AccessTransaction, login: str, session: str, share: Share, object_: str
    ) -> tuple[FacilityId, int]:
        sender = must_be_active(await transaction.compiled_user(acting_login(login)))
        logins = possible_logins(grant.recipient_login for grant in share.grants)
        recipients = {user.login: user for user in await transaction.users_called([], logins)}
        known = (await transaction.buckets([grant.bucket_id for grant in share.grants])).values()
        owner = next((bucket.terms.facility_id for bucket in known if bucket.terms), None)
        granted = share.buckets(sender.id, recipients, owner) if owner else []
        if then(Act.GRANT, known_grant(known, granted)) is Then.STAYS and owner:
            return owner, await transaction.revision()

        facility_id = await _must_share(transaction, sender, session, share)
        for grant in share.grants:
            must_receive(recipients.get(grant.recipient_login.lower()), sender)
        must_end_later_than(transaction.now, share.ends_at)
        changed = await transaction.bump_cases(share.case_ids)
        await transaction.save_buckets(share.buckets(sender.id, recipients, facility_id))
        await transaction.record(
            sender.login,
            "buckets.granted",
            object_,
            "done",
            facility=str(facility_id),
            buckets=" ".join(f"{grant.bucket_id}:{grant.recipient_login.lower()}" for grant in share.grants),
            cases=" ".join(map(str, share.case_ids)),
            ends_at=str(share.ends_at or ""),
            write_report=int(share.write_report),
            parent=str(share.parent_id or ""),
        )
        await transaction.say(*(SightChanged(case_id, version) for case_id, version in changed))
        return facility_id, await transaction.bump_revision()

    async def extend_bucket(self, login: str, session: str, standing: Standing) -> int:
        """Sets how a bucket stands, with any end, if the actor could share it like this now (A46).

        Answers the revision; again with the same content the same, so a lost answer does no harm.
        """
        object_ = f"bucket:{standing.bucket_id}"
        async with self._audited(login, "bucket.extended", object_, [standing.bucket_id]) as transaction:
            actor = must_be_active(await transaction.compiled_user(acting_login(login)))
            bucket = (await transaction.buckets([standing.bucket_id])).get(standing.bucket_id)
            terms = must_be_granted(bucket, standing.bucket_id)
            if then(Act.EXTEND, known_standing(bucket, standing)) is Then.STAYS:
                return await transaction.revision()
            await _must_extend(transaction, actor, session, terms, standing)
            await transaction.save_standings([standing])
            await transaction.record(
                actor.login,
                "bucket.extended",
                object_,
                "done",
                version=standing.version,
                ends_at=str(standing.ends_at or ""),
            )
            return await _sight_changed(transaction, terms.case_ids)

    async def change_buckets(self, standings: Sequence[Standing]) -> int:
        """Sets how buckets stand where that is newer, none with a later end; answers the revision.

        One that is not known is remembered, so that a grant that comes late opens nothing.
        """
        if not 1 <= len(standings) <= MAX_CHANGES:
            raise Invalid(f"`changes` must be 1 to {MAX_CHANGES}", field="changes")
        if any(standing.version < 1 for standing in standings):
            raise Invalid("`version` must be at least 1", field="version")
        bucket_ids = {standing.bucket_id for standing in standings}
        async with self._holding(bucket_ids) as transaction:
            known = await transaction.buckets(bucket_ids)
            newer = changed(known, standings)
            if not newer:
                return await transaction.revision()
            await transaction.save_standings(list(newer.values()))
            for standing in newer.values():
                await transaction.record(
                    "service:sharing",
                    "bucket.changed",
                    f"bucket:{standing.bucket_id}",
                    "done",
                    version=standing.version,
                    open=int(standing.is_open),
                    ends_at=str(standing.ends_at or ""),
                )
            granted = [terms for each in newer if each in known and (terms := known[each].terms)]
            return await _sight_changed(transaction, {each for terms in granted for each in terms.case_ids})

    async def register_session(
        self, bucket_id: BucketId, session: str, contact_version: int = 0
    ) -> tuple[int, str, Collection[CaseId]]:
        """Lets a bucket give sight in a session in which a code was redeemed (A57).

        Answers the revision, and whom the bucket gives sight of which cases.

        Raises Expired if the code was sent to another contact than the recipient has now; 0: not told which.
        """
        if not 1 <= len(session) <= MAX_SESSION_CHARACTERS or not session.isprintable():
            raise Invalid(
                f"`session` must be 1 to {MAX_SESSION_CHARACTERS} printable characters", field="session"
            )
        async with self._holding([bucket_id]) as transaction:
            bucket = (await transaction.buckets([bucket_id])).get(bucket_id)
            terms = must_be_granted(bucket, bucket_id)
            (recipient,) = await transaction.users_called([terms.recipient_id], [])
            if contact_version and recipient.contact_version != contact_version:
                raise Expired("the code was sent to an earlier contact of yours: ask for another code")
            if await transaction.register_session(bucket_id, session):
                await transaction.record(
                    "service:sharing", "bucket.session_registered", f"bucket:{bucket_id}", "done"
                )
                revision = await _sight_changed(transaction, terms.case_ids)
            else:
                revision = await transaction.revision()
        return revision, recipient.login, terms.case_ids

    async def describe_cases(self, case_ids: Sequence[CaseId]) -> list[DescribedCase]:
        """What a share and its mail need of cases, in the order asked; unknown ones are left out."""
        if not 1 <= len(case_ids) <= MAX_CASES:
            raise Invalid(f"name 1 to {MAX_CASES} cases (`case_ids`)", field="case_ids")
        async with self._database.statements() as statements:
            found = await statements.describe_cases(case_ids)
        return [found[case_id] for case_id in case_ids if case_id in found]


async def _must_share(
    transaction: AccessTransaction, sender: CompiledUser, session: str, share: Share
) -> FacilityId:
    await transaction.hold_cases(share.case_ids)
    answer = await transaction.sighted(sender, share.case_ids, session=session)
    sightings = {
        seen.case_id: seen for seen in (answer.found if answer else ()) if seen and not seen.being_deleted
    }
    parent = None
    if share.parent_id is not None:
        parent = await _own_bucket(transaction, sender, session, share.parent_id)
    return must_share(sender, share, sightings, parent, transaction.now)


async def _must_extend(
    transaction: AccessTransaction, actor: CompiledUser, session: str, terms: Terms, standing: Standing
) -> None:
    """Raises unless the actor could share the same now: by what it was shared on from, or by privilege."""
    if not terms.case_ids:
        raise no_bucket(standing.bucket_id)
    recipients = await transaction.users_called([terms.recipient_id], [])
    for recipient in recipients:
        must_receive(recipient, actor)
    share = Share(
        tuple(terms.case_ids),
        tuple(Grant(standing.bucket_id, each.login, terms.two_factor) for each in recipients),
        standing.ends_at,
        terms.write_report,
        terms.allow_further_sharing,
        terms.parent_id,
    )
    way = replace(share, parent_id=None)  # by privilege
    if terms.parent_id is not None:
        parent = (await transaction.buckets([terms.parent_id])).get(terms.parent_id)
        if parent is None or parent.terms is None or not await transaction.is_active(terms.parent_id):
            raise Conflict("the share that you received, and share on, has ended or is blocked")
        share.must_stay_within(parent.standing, parent.terms)
        if await transaction.gives_sight(actor, terms.parent_id, session):
            way = share
    must_be_at(await _must_share(transaction, actor, session, way), terms)
    must_end_later_than(transaction.now, standing.ends_at)


async def _own_bucket(
    transaction: AccessTransaction, user: CompiledUser, session: str, bucket_id: BucketId
) -> Bucket:
    """A bucket that gives the user sight now; raises NotFound for any other, whatever it lacks."""
    bucket = (await transaction.buckets([bucket_id])).get(bucket_id)
    if bucket is None or not await transaction.gives_sight(user, bucket_id, session):
        raise no_bucket(bucket_id, "parent_bucket_id")
    return bucket


async def _sight_changed(transaction: AccessTransaction, case_ids: Collection[CaseId]) -> int:
    changed = await transaction.bump_cases(case_ids)
    await transaction.say(*(SightChanged(case_id, version) for case_id, version in changed))
    return await transaction.bump_revision()
