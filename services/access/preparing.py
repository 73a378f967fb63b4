"""What sharing needs to know at once: before it saves a share, and when a code was redeemed."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

from kernel.errors import NotFound, Unauthenticated
from kernel.ids import BucketId, CaseId
from services.access.administration import Users
from services.access.describedcases import DescribedCase
from services.access.domain import Decision, Permission, User
from services.access.granting import Buckets
from services.access.usecases import Questions


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a share is judged by; unless all cases are seen, and at one facility, the decisions alone."""

    decisions: Sequence[Decision]
    may_share: bool = False
    cases: Sequence[DescribedCase] = ()
    users: Sequence[User] = ()


class Preparing:
    """Puts answers together, so that sharing asks once. `Buckets` decides, and decides once more."""

    def __init__(self, questions: Questions, users: Users, buckets: Buckets) -> None:
        self._questions = questions
        self._users = users
        self._buckets = buckets

    async def prepare_grant(
        self, login: str, session: str, case_ids: Sequence[CaseId], logins: Sequence[str]
    ) -> Prepared:
        """Whether and where the user sees the cases, and who these people are."""
        decisions = await self._questions.check_many(login, case_ids, session=session)
        facility_ids = {decision.facility_id for decision in decisions if decision.allowed}
        if len(facility_ids) != 1 or not all(decision.allowed for decision in decisions):
            return Prepared(decisions)
        cases = await self._buckets.describe_cases(case_ids)
        users, _ = await self._users.describe_users([], logins)
        may_share = False
        with suppress(NotFound):  # they hold nothing at the facility of a case that they see
            may_share, *_ = await self._questions.check_permission(
                login, Permission.CREATE_SHARE, facility_ids.pop()
            )
        return Prepared(decisions, may_share, cases, users)

    async def register_session(
        self, bucket_id: BucketId, session: str, contact_version: int
    ) -> tuple[int, Collection[CaseId] | None]:
        """Registers a session; answers the revision, and which of the bucket's cases are seen in it.

        None: the recipient is no active user.
        """
        revision, login, cases = await self._buckets.register_session(bucket_id, session, contact_version)
        if not (case_ids := list(cases)):
            return revision, []
        try:
            decisions = await self._questions.check_many(login, case_ids, session=session)
        except Unauthenticated:
            return revision, None
        return revision, [each for each, its in zip(case_ids, decisions, strict=True) if its.allowed]
