"""What senders do, with the decisions of access as it runs."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from kernel.errors import Conflict, Denied, Invalid, NotFound, ReadroomError, Unauthenticated
from kernel.events import ShareCreated, ShareExpired, ShareRevoked
from kernel.ids import CaseId, FacilityId, ShareId
from kernel.language import Language
from services.sharing.domain import Bucket, Rights, State
from services.sharing.validity import Policy, Validity, a_month_after, end_of
from services.sharing.wanted import Preferences, Recipient
from tests.sharing.system import (
    AMSTERDAM,
    DAY,
    FURTHER,
    Sharing,
    act,
    block,
    error_of,
    extend,
    in_days,
    till,
    wanted,
)
from wire.access.v1 import access_pb2

pytestmark = pytest.mark.asyncio(loop_scope="package")

CREATED, REVOKED = ShareCreated.subject, ShareRevoked.subject


# Sharing


async def test_a_share_asks_access_twice_and_to_prepare_one_once(sharing: Sharing) -> None:
    case_id = await sharing.world.case()
    act("vos")
    sharing.access.asked = []
    await sharing.shares.prepare_share("vos", [case_id], ["rita"])
    assert ["prepare_grant"] == sharing.access.asked

    sharing.access.asked = []
    await sharing.share("vos", [case_id], "rita", "rob")
    assert ["prepare_grant", "grant"] == sharing.access.asked


@pytest.mark.proves("SHR-1", part="studies, recipients, parameters, confirmation")
@pytest.mark.proves("A40")
@pytest.mark.proves("SHR-29", part="what is shared is on the worklist")
async def test_several_cases_are_shown_to_several_people_each_in_a_bucket_of_his_own(
    sharing: Sharing,
) -> None:
    world, cases = sharing.world, [await sharing.world.case() for _ in range(3)]

    share = await sharing.share("vos", cases[:2], "Rita", "rob")

    rita, rob = share.buckets
    assert [("rita", State.ACTIVE), ("rob", State.ACTIVE)] == [
        (each.recipient_login, each.state) for each in (rita, rob)
    ]
    assert share == await sharing.stored(share.id)
    assert tuple(cases[:2]) == share.case_ids
    for login in ("rita", "rob"):
        assert [True, True, False] == [await world.sees(login, case_id) for case_id in cases]
        assert set(map(str, cases)) & await world.listed(login) == set(map(str, cases[:2]))
    assert not await world.sees("ron", cases[0])
    assert [(CREATED, 1), (CREATED, 1)] == await sharing.facts(rita.id, rob.id)
    await block(sharing, rita)
    assert not await world.sees("rita", cases[0])
    assert await world.sees("rob", cases[0])
    await sharing.revoke("vos", bucket=rob)
    assert [State.BLOCKED, State.REVOKED] == await sharing.states(share)


@pytest.mark.proves("SHR-12", part="what access makes of it")
async def test_a_share_carries_the_report_to_read_or_to_write(sharing: Sharing) -> None:
    reads, writes = await sharing.world.case(), await sharing.world.case()
    await sharing.share("vos", [reads], "ray")
    await sharing.share("vos", [writes], "ray", rights=Rights.WRITE_REPORT)

    stub = sharing.world.access.acting("ray")
    request = access_pb2.CheckManyRequest(case_ids=[str(reads), str(writes)])
    decisions = (await stub.CheckMany(request)).decisions

    assert [access_pb2.LEVEL_VIEW, access_pb2.LEVEL_REPORT] == [each.level for each in decisions]
    assert all(each.images and each.reports for each in decisions)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("patient_agreed", {"patient_agreed": False}),
        ("reason", {"reason": "  "}),
        ("rights", {"rights": None}),
        ("anonymize", {"anonymize": True}),
        ("recipients", {"recipients": [Recipient("nobody")]}),
        ("recipients", {"recipients": [Recipient("ivan")]}),
        ("recipients", {"recipients": [Recipient("vos")]}),
        ("recipients", {"recipients": [Recipient("olaf")]}),  # of a role that sees no studies
        ("recipients", {"recipients": [Recipient("rita"), Recipient("nobody")]}),
        ("two_factor", {"recipients": [Recipient("norm", two_factor=True)]}),
        ("send_mail", {"recipients": [Recipient("norm", send_mail=True)]}),
        ("valid_till", {"validity": Validity("2020-01-01")}),
        ("valid_till", {"validity": Validity("tomorrow")}),
    ],
)
@pytest.mark.proves("SHR-13")
@pytest.mark.proves("SHR-19")
async def test_what_is_refused_names_the_field_and_shares_nothing(
    sharing: Sharing, field: str, changes: dict[str, Any]
) -> None:
    case_id = await sharing.world.case()
    act("vos")

    error = await error_of(sharing.shares.share("vos", wanted([case_id], "rita", **changes)))

    assert (Invalid, field) == (type(error), error.field)
    assert not await sharing.query("select from share_cases where case_id = $1", case_id)
    assert not await sharing.world.sees("rita", case_id)


@pytest.mark.proves("A50", part="one facility")
async def test_cases_of_two_facilities_are_two_shares(sharing: Sharing) -> None:
    cases = [await sharing.world.case(), await sharing.world.case(sharing.world.south)]
    act("probe")

    error = await error_of(sharing.shares.share("probe", wanted(cases, "rita")))

    assert (Invalid, "case_ids") == (type(error), error.field)


async def test_a_case_that_the_sender_does_not_see_is_as_absent(sharing: Sharing) -> None:
    seen, unseen, absent = (
        await sharing.world.case(),
        await sharing.world.case(sharing.world.south),
        CaseId(uuid4()),
    )
    act("vos")

    errors = [
        await error_of(verb("vos", *arguments))
        for case_ids in ([unseen], [absent], [seen, unseen], [seen, absent])
        for verb, arguments in (
            (sharing.shares.share, (wanted(case_ids, "rita"),)),
            (sharing.shares.prepare_share, (case_ids, ["rita"])),
        )
    ]

    assert 1 == len({(type(each), each.sentence, each.field) for each in errors})
    assert isinstance(errors[0], NotFound)


async def test_sharing_is_a_permission(sharing: Sharing) -> None:
    case_id = await sharing.world.case()
    act("mute")

    assert isinstance(await error_of(sharing.shares.share("mute", wanted([case_id], "rita"))), Denied)
    assert isinstance(await error_of(sharing.shares.prepare_share("mute", [case_id], [])), Denied)
    act("nobody")
    assert isinstance(
        await error_of(sharing.shares.share("nobody", wanted([case_id], "rita"))), Unauthenticated
    )


@pytest.mark.proves("SHR-14", part="it is stored, and for whom")
@pytest.mark.proves("SHR-21", part="it is kept for the mail")
@pytest.mark.proves("SHR-15", part="what the sender chose")
async def test_reason_message_urgency_and_language_are_kept(sharing: Sharing) -> None:
    case_id = await sharing.world.case()

    share = await sharing.share(
        "vos",
        [case_id],
        "rita",
        reason="tumour board",
        message="Please look\nat the liver",
        urgent=True,
        language=Language.DE,
    )

    described = await sharing.shares.describe_bucket(share.buckets[0].id)
    stored = described.share
    assert "tumour board" == stored.reason
    assert ("Please look\nat the liver", True, Language.DE) == (
        stored.message,
        stored.urgent,
        stored.language,
    )


@pytest.mark.proves("SHR-16")
@pytest.mark.proves("SHR-15")
async def test_without_a_choice_the_language_is_that_of_the_majority(sharing: Sharing) -> None:
    cases = [await sharing.world.case()]

    shares = [
        await sharing.share("vos", cases, *to) for to in (("rita", "rob", "ron"), ("rita", "rob"), ("ray",))
    ]

    assert [Language.FR, Language.NL, Language.DE] == [share.language for share in shares]
    mails = [await sharing.shares.describe_bucket(bucket.id) for bucket in shares[0].buckets]
    assert [Language.FR] * 3 == [mail.share.language for mail in mails]
    act("vos")
    assert Language.FR is (await sharing.shares.prepare_share("vos", cases, ["rita", "rob", "ron"])).language


@pytest.mark.proves("SHR-11", part="whether a mail is due")
@pytest.mark.proves("SHR-28", part="whether a mail is due, and its link")
async def test_a_mail_is_due_while_it_is_wanted_and_the_bucket_is_active(sharing: Sharing) -> None:
    case_id = await sharing.world.case()
    recipients = [Recipient("rita", send_mail=True), Recipient("rob")]
    share = await sharing.share("vos", [case_id], recipients=recipients)
    rita, rob = share.buckets

    async def due(bucket: Bucket) -> bool:
        return (await sharing.shares.describe_bucket(bucket.id)).mail_due

    assert (True, False) == (await due(rita), await due(rob))
    described = await sharing.shares.describe_bucket(rita.id)
    act("rita")
    assert rita.id == (await sharing.inbox.open("rita", "s", described.link)).bucket.id
    await block(sharing, rita)
    assert not await due(rita)
    await sharing.revoke("vos", share=share)
    assert not await due(rita)


@pytest.mark.proves("SHR-26")
@pytest.mark.proves("A50", part="sticky options")
async def test_the_next_share_begins_with_the_choices_of_the_last_that_was_completed(
    sharing: Sharing,
) -> None:
    case_id = await sharing.world.case()

    async def prepared() -> Preferences:
        act("vos")
        return (await sharing.shares.prepare_share("vos", [case_id], [])).preferences

    await sharing.share("vos", [case_id], recipients=[Recipient("rita", two_factor=True, send_mail=True)])
    assert Preferences(True, True) == await prepared()
    refused = wanted([case_id], recipients=[Recipient("vos")])
    await error_of(sharing.shares.share("vos", refused))
    assert Preferences(True, True) == await prepared()
    await sharing.share("vos", [case_id], recipients=[Recipient("rob", send_mail=True)])
    assert Preferences(False, True) == await prepared()


@pytest.mark.proves("SHR-32")
async def test_the_same_cases_are_shared_again(sharing: Sharing) -> None:
    cases = [await sharing.world.case() for _ in range(2)]
    first = await sharing.share("vos", cases, "rita")

    act("vos")
    again, _ = await sharing.shares.share_again("vos", first.id, wanted([], "rob", reason="holiday"))

    assert (first.case_ids, "holiday") == (again.case_ids, again.reason)
    assert await sharing.world.sees("rob", cases[1])
    for login in ("adam", "rita"):
        act(login)
        assert isinstance(
            await error_of(sharing.shares.share_again(login, first.id, wanted([], "ron"))), NotFound
        )
    act("vos")
    error = await error_of(sharing.shares.share_again("vos", first.id, wanted(cases, "ron")))
    assert "case_ids" == error.field


# Until when


@pytest.mark.proves("SHR-17")
@pytest.mark.proves("A47", part="the default of a share")
async def test_a_share_lasts_a_month_unless_it_says_otherwise(sharing: Sharing) -> None:
    case_id = await sharing.world.case()
    today = in_days(sharing, 0)

    act("vos")
    prepared = await sharing.shares.prepare_share("vos", [case_id], ["rita"])
    shares = [
        await sharing.share("vos", [case_id], "rita", validity=validity)
        for validity in (Validity(), Validity(today.isoformat()), Validity(unlimited=True))
    ]

    month = a_month_after(today)
    assert (month, None, True) == (
        prepared.valid_till,
        prepared.valid_till_at_most,
        prepared.unlimited_allowed,
    )
    assert [end_of(month, AMSTERDAM), end_of(today, AMSTERDAM), None] == [
        share.buckets[0].ends_at for share in shares
    ]


@pytest.mark.proves("SHR-18")
async def test_a_facility_sets_default_and_maximum_and_forbids_unlimited_access(sharing: Sharing) -> None:
    case_id = await sharing.world.case()
    await sharing.save_policy(default_days=7, maximum_days=10, unlimited_allowed=False)
    try:
        act("vos")
        prepared = await sharing.shares.prepare_share("vos", [case_id], [])
        share = await sharing.share("vos", [case_id], "rita")
        fields = [
            (await error_of(sharing.share("vos", [case_id], "rita", **changes))).field
            for changes in (till(sharing, 11), {"validity": Validity(unlimited=True)})
        ]
        fields += [
            (await error_of(sharing.extending.extend("vos", share.buckets[0].id, validity))).field
            for validity in (till(sharing, 11)["validity"], Validity(unlimited=True))
        ]
        _, extended, _ = await sharing.extending.extend(
            "vos", share.buckets[0].id, till(sharing, 10)["validity"]
        )
    finally:
        await sharing.save_policy()

    assert (in_days(sharing, 7), in_days(sharing, 10), False) == (
        prepared.valid_till,
        prepared.valid_till_at_most,
        prepared.unlimited_allowed,
    )
    assert end_of(in_days(sharing, 7), AMSTERDAM) == share.buckets[0].ends_at
    assert ["valid_till", "unlimited"] * 2 == fields
    assert end_of(in_days(sharing, 10), AMSTERDAM) == extended.ends_at


@pytest.mark.proves("A47")
async def test_one_month_from_the_last_of_january_and_a_maximum_that_excludes_unlimited_access(
    sharing: Sharing,
) -> None:
    case_id = await sharing.world.case()
    january = datetime(sharing.clock.now().year + 1, 1, 31, 12, tzinfo=UTC)
    sharing.clock.ahead = january - sharing.clock.now()

    share = await sharing.share("vos", [case_id], "rita")
    february = date(january.year, 3, 1) - DAY
    assert end_of(february, AMSTERDAM) == share.buckets[0].ends_at

    for field, policy in (
        ("default_days", {"default_days": 11, "maximum_days": 10, "unlimited_allowed": False}),
        ("unlimited_allowed", {"maximum_days": 10}),
    ):
        assert field == (await error_of(sharing.save_policy(**policy))).field
    unlimited: dict[str, Any] = {"validity": Validity(unlimited=True)}
    for policy in ({"maximum_days": 10}, {}):
        await sharing.save_policy(**policy, unlimited_allowed=False)
        try:
            error = await error_of(sharing.share("vos", [case_id], "rita", **unlimited))
            capped = await sharing.share("vos", [case_id], "rita")
        finally:
            await sharing.save_policy()
        assert "unlimited" == error.field
        last_day = january.date() + 10 * DAY if policy else february
        assert end_of(last_day, AMSTERDAM) == capped.buckets[0].ends_at
    assert (await sharing.share("vos", [case_id], "rita", **unlimited)).buckets[0].ends_at is None


async def test_a_policy_is_set_by_who_administers_the_facilitys_shares(sharing: Sharing) -> None:
    north = FacilityId(UUID(sharing.world.north))
    for login, word in (("vos", Denied), ("olaf", Denied), ("rita", NotFound)):  # she is nobody there
        act(login)
        assert isinstance(await error_of(sharing.policies.save_policy(login, Policy(north))), word)
    assert isinstance(await error_of(sharing.policies.describe_policy("rita", north)), NotFound)
    act("adam")
    described = await sharing.policies.describe_policy("adam", north)
    assert Policy(north, version=described.version) == described
    act("adam")
    unknown = FacilityId(uuid4())
    assert isinstance(await error_of(sharing.policies.save_policy("adam", Policy(unknown))), NotFound)


@pytest.mark.proves("SHR-29")
@pytest.mark.proves("R11", part="of a share: recorded, told, and undone by a renewal only")
async def test_what_has_ended_is_in_no_list_and_a_renewal_brings_it_back(sharing: Sharing) -> None:
    case_id = await sharing.world.case()
    share = await sharing.share("vos", [case_id], "rita", **till(sharing, 2))
    (bucket,) = share.buckets
    assert bucket.id in await sharing.received("rita")

    assert bucket.ends_at is not None
    sharing.clock.ahead = bucket.ends_at - sharing.clock.now() - timedelta(seconds=2)
    assert bucket.id in await sharing.received("rita")
    sharing.clock.pass_by(timedelta(seconds=2))
    assert bucket.id not in await sharing.received("rita")  # before anybody has recorded it
    assert isinstance(await error_of(sharing.open("rita", bucket)), NotFound)
    await sharing.repair()
    assert [State.EXPIRED] == await sharing.states(share)
    assert [(CREATED, 1), (ShareExpired.subject, 2)] == await sharing.facts(bucket.id)
    assert not await sharing.world.sees("rita", case_id)
    await sharing.repair()
    assert 2 == len(await sharing.facts(bucket.id))

    sharing.clock.ahead = timedelta()  # back in time it stays recorded
    assert bucket.id not in await sharing.received("rita")
    assert [State.EXPIRED] == await sharing.states(share)
    act("vos")
    _, renewed, _ = await sharing.extending.extend("vos", bucket.id, till(sharing, 5)["validity"])
    assert (State.ACTIVE, 3, 3) == (renewed.state, renewed.version, renewed.accepted_version)
    assert bucket.id in await sharing.received("rita")
    assert await sharing.world.sees("rita", case_id)


async def test_a_bucket_is_shortened_lengthened_and_made_endless(sharing: Sharing) -> None:
    share = await sharing.share("vos", [await sharing.world.case()], "rita", **till(sharing, 5))
    bucket_id = share.buckets[0].id

    for validity in (till(sharing, 0)["validity"], till(sharing, 9)["validity"], Validity(unlimited=True)):
        act("vos")
        _, bucket, revision = await sharing.extending.extend("vos", bucket_id, validity)
        assert revision
        stored = await sharing.stored(share.id)
        assert stored is not None
        assert [replace(bucket, accepted_version=bucket.version)] == list(stored.buckets)
        assert await sharing.ends_in_access(bucket_id) == bucket.ends_at
    assert isinstance(await error_of(sharing.extending.extend("vos", bucket_id, Validity())), Invalid)
    await sharing.revoke("vos", share=share)
    assert isinstance(
        await error_of(sharing.extending.extend("vos", bucket_id, Validity(unlimited=True))), Conflict
    )


# Who may


async def test_a_share_is_revoked_by_its_sender_and_who_administers_the_facilitys_shares(
    sharing: Sharing,
) -> None:
    cases = [await sharing.world.case()]
    share = await sharing.share("vos", cases, "rita", "rob")

    for login in ("rita", "rob", "probe", "olaf"):
        for verb, arguments in (
            (sharing.shares.revoke, (None, share.id)),
            (sharing.shares.revoke, (share.buckets[0].id, None)),
            (sharing.extending.extend, (share.buckets[0].id, Validity(unlimited=True))),
        ):
            act(login)
            error: ReadroomError = await error_of(verb(login, *arguments))
            act(login)
            absent = await error_of(sharing.shares.revoke(login, None, ShareId(uuid4())))
            assert (type(error), error.sentence) == (NotFound, absent.sentence)
    await sharing.revoke("adam", bucket=share.buckets[0])
    await sharing.revoke("vos", bucket=share.buckets[1])
    assert [State.REVOKED] * 2 == await sharing.states(share)
    await sharing.revoke("vos", share=share)  # again: the same
    assert [(CREATED, 1), (REVOKED, 2)] == await sharing.facts(share.buckets[0].id)


async def test_senders_list_their_own_shares_and_administrators_their_facilitys(sharing: Sharing) -> None:
    cases = [await sharing.world.case()]
    mine = await sharing.share("vos", cases, "rita", "rob", **FURTHER)
    onward = await sharing.share("rita", cases, "ron")
    await block(sharing, mine.buckets[1])

    async def listed(login: str, *, blocked_only: bool = False) -> set[Any]:
        act(login)
        shares = await sharing.shares.list_shares(login, blocked_only=blocked_only, before=None, limit=400)
        return {share.id for share in shares} & {mine.id, onward.id}

    assert {mine.id} == await listed("vos")
    assert {onward.id} == await listed("rita")
    assert {mine.id, onward.id} == await listed("adam")
    assert set() == await listed("ron") | await listed("olaf") | await listed("probe")
    assert {mine.id} == await listed("adam", blocked_only=True)
    another = await sharing.share("vos", [await sharing.world.case()], "rita")
    for login, of_the_case in (("vos", {mine.id}), ("rita", {onward.id}), ("adam", {mine.id, onward.id})):
        act(login)
        found = await sharing.shares.list_shares(
            login, blocked_only=False, before=None, limit=400, case_id=cases[0]
        )
        assert of_the_case == {share.id for share in found} - {another.id}
        assert another.id not in {share.id for share in found}
    act("adam")
    pages = [
        await sharing.shares.list_shares("adam", blocked_only=False, before=before, limit=400)
        for before in (None, onward.id, mine.id)
    ]
    ids = [[share.id for share in page if share.id in (mine.id, onward.id)] for page in pages]
    assert [[onward.id, mine.id], [mine.id], []] == ids


@pytest.mark.proves("SEC-15", part="sharing writes down every act, done and refused")
async def test_every_act_is_audited(sharing: Sharing) -> None:
    share = await sharing.share("vos", [await sharing.world.case()], "rita")
    (bucket,) = share.buckets
    await sharing.open("rita", bucket)
    await error_of(sharing.revoke("rob", share=share))
    await error_of(extend(sharing, "adam", bucket, Validity(unlimited=True)))
    await extend(sharing, "vos", bucket, Validity(unlimited=True))
    await extend(sharing, "adam", bucket, till(sharing, 1)["validity"])
    await sharing.revoke("vos", share=share)

    assert [
        ("vos", "share.created", "done"),
        ("rob", "share.revoked", "refused"),
        ("vos", "share.revoked", "done"),
    ] == await sharing.audited(f"share:{share.id}")
    assert [
        ("rita", "share.opened", "done"),
        ("adam", "share.extended", "refused"),
        ("vos", "share.extended", "done"),
        ("adam", "share.extended", "done"),
    ] == await sharing.audited(f"bucket:{bucket.id}")
