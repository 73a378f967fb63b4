"""What the use cases of sharing ask access and tell it: who acts, whose cases are, how buckets stand.

The own row is written first, then access is asked. A bucket is saved pending and opened when access has
granted it; every other change is the bucket's next version, told to access until that version is accepted.
So whatever is cut off, one pass of `Repairs` makes both agree (docs/decisions/0005).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from kernel.database import Database
from kernel.errors import (
    Unauthenticated,
    Unavailable,
)
from kernel.ids import BucketId, CaseId, FacilityId, ShareId
from kernel.reach import Reach
from services.sharing.domain import (
    ActiveUser,
    Bucket,
    Change,
    Owner,
    Prospect,
    Share,
    Sight,
    State,
    User,
    no_share,
)

if TYPE_CHECKING:
    from services.sharing.store import SharingTransaction


SHARE_ADMIN = "share.admin"
BATCH = 500
"""Buckets expired, abandoned or told at once; access takes 1,000."""
NO_CASE = CaseId(UUID(int=0))
"""What access is asked about in the place of cases that there are not."""


class Owning(Protocol):
    """The service access, asked whose cases are."""

    async def is_deleted(self, case_id: CaseId) -> bool:
        """Whether the deletion of the case has begun."""
        ...

    async def owners(self, case_ids: Collection[CaseId]) -> Mapping[CaseId, Owner]:
        """The facility that each case is at now, of those that there are."""
        ...


class Describing(Protocol):
    """The service access, asked who users are."""

    async def users(self, logins: Collection[str]) -> Mapping[str, User]:
        """Those that there are, by login."""
        ...


class Access(Owning, Describing, Protocol):
    """The service access: but for `change` on behalf of the acting user."""

    async def prepare_grant(self, case_ids: Sequence[CaseId], logins: Sequence[str]) -> Prospect: ...
    async def check_many(self, case_ids: Sequence[CaseId]) -> Sequence[Sight]: ...
    async def reach(self, permission: str) -> Reach: ...
    async def holds(self, permission: str, facility_id: FacilityId) -> bool:
        """Raises NotFound for a facility that does not exist, as for one where the user holds nothing."""
        ...

    async def grant(self, share: Share) -> str:
        """Opens the buckets of a share, all or none; answers the revision of sight."""
        ...

    async def extend(self, change: Change) -> str:
        """Sets how a bucket stands, with a later end, if the actor could share it now; answers the
        revision of sight."""
        ...

    async def change(self, changes: Sequence[Change]) -> str:
        """Sets how buckets stand, none with a later end; answers the revision of sight."""
        ...


async def active_user(access: Describing, actor: str) -> ActiveUser:
    """Who acts, as access knows them now. Raises Unauthenticated for a user who is deactivated or unknown."""
    user = (await access.users([actor])).get(actor)
    if user is None or not user.active:
        raise Unauthenticated("there is no active user with this login")
    return ActiveUser(user.login, user.mobile_number, user.language, user.contact_version)


async def owners_of(access: Owning, share: Share | None) -> set[FacilityId]:
    """The facilities that the cases of a share are at now; one may have moved since it was shared (A17).

    Of no share there are none, and access is asked all the same: an absent one costs what a foreign one does.
    """
    owners = await access.owners(share.case_ids if share else [NO_CASE])
    found = {owner.facility_id for owner in owners.values()}
    return found or ({share.facility_id} if share else set())


class Telling:
    """Tells access how buckets stand."""

    def __init__(self, database: Database[SharingTransaction], access: Access) -> None:
        self._database = database
        self._access = access

    async def tell(self, buckets: Sequence[Bucket]) -> str:
        """Returns when access has accepted these buckets as they are here; answers the revision of sight.

        Of a pending one it is told with its activation: a bucket that was closed under a version stays so.
        """
        try:
            return await self.repeat(buckets)
        except Unavailable as error:
            raise Unavailable("it is saved, and takes effect as soon as access answers") from error

    async def repeat(self, buckets: Sequence[Bucket]) -> str:
        """The same, for whoever does not wait for it."""
        revision = ""
        told = [bucket for bucket in buckets if bucket.state is not State.PENDING]
        for begin in range(0, len(told), BATCH):
            changes = [bucket.change for bucket in told[begin : begin + BATCH]]
            revision = await self._access.change(changes)
            async with self._database.transaction() as transaction:
                await transaction.accept(changes)
        return revision


async def lock_tree(transaction: SharingTransaction, roots: Collection[BucketId]) -> Sequence[Bucket]:
    """These buckets and all that was shared on from them, locked from the top down.

    A further share locks the bucket it comes from, so none is missed.
    """
    tree: list[Bucket] = []
    level = await transaction.lock_buckets(roots)
    while level:
        tree += level
        level = await transaction.lock_children([bucket.id for bucket in level])
    return tree


async def administered(
    database: Database[SharingTransaction],
    access: Access,
    actor: str,
    bucket_id: BucketId | None,
    share_id: ShareId | None,
) -> tuple[Share, set[FacilityId]]:
    """A share that the actor sent, or whose shares they administer at the facility that it came from or
    that a case of it is at now; and where its cases are now.

    Somebody else's share is the same as an absent one, also in what is asked.
    """
    reach = await access.reach(SHARE_ADMIN)
    async with database.transaction() as transaction:
        share = await transaction.share_of(bucket_id) if bucket_id else None
        share = await transaction.share(share_id) if share_id else share
    owners = await owners_of(access, share)
    if share is None or not (
        share.sender_login == actor or any(each in reach for each in {share.facility_id, *owners})
    ):
        raise no_share()
    return share, owners
