"""What a mail tells, in which language; and what a hostile name, message or address can do to it: nothing."""

import re
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Environment, meta

from kernel.delivery import State, Undelivered
from kernel.language import Language
from services.notify.channels import _written
from services.notify.domain import Exam, Letter, Message, addressed, lines, one_line, study_date
from services.notify.rendering import FOLDER, Templates
from tests.clocks import NOON
from tests.notify.builders import LINK_BASE, OFFICE
from tests.notify.conftest import Notify

LINK = LINK_BASE + "L" * 43
TEMPLATES = Templates(LINK_BASE)
SUBJECTS = {
    Language.EN: "An exam has been shared with you",
    Language.NL: "Er is een onderzoek met u gedeeld",
    Language.FR: "Un examen a été partagé avec vous",
    Language.DE: "Eine Untersuchung wurde mit Ihnen geteilt",
}


# What it tells


@pytest.mark.proves("SHR-11")
@pytest.mark.proves("SHR-25", part="in the mail")
@pytest.mark.proves("A52", part="mail")
async def test_a_mail_holds_sender_initials_description_date_link_and_message_and_nothing_else(
    notify: Notify,
) -> None:
    owners = notify.owners
    exams = (owners.exam("J.D.", "CT thorax", date(2026, 10, 30)), owners.exam("M.S.", "", None))
    await notify.created(owners.bucket(case_ids=exams, message="Please look\nat both"))

    (mail,) = await notify.deliver()

    assert mail.text == (
        "Dr Ada Vos has shared 2 exams with you:\n\n"
        "- J.D., CT thorax, 30 October 2026\n"
        "- M.S.\n\n"
        f"Open the exams:\n{LINK}\n\n"
        "Message from the sender:\n> Please look\n> at both\n"
    )
    told = " ".join(re.sub("<[^>]*>", " ", mail.html.partition("<body")[2]).split()).partition("> ")[2]
    assert told == (
        "Dr Ada Vos has shared 2 exams with you: J.D. , CT thorax , 30 October 2026 M.S. "
        "Open the exams Message from the sender: Please look at both"
    )
    assert [LINK] == re.findall('(?:href|src|url)[=(]"?([^"]*)', mail.html)
    assert {"From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "Content-Language"} | {
        "MIME-Version",
        "Content-Type",
    } == set(mail.message.keys())
    assert "Sun, 01 Nov 2026 12:00:00 +0000" == mail.message["Date"]


@pytest.mark.proves("SHR-15", part="the language of the mail")
@pytest.mark.proves("SHR-16", part="one language for all mails of a share")
@pytest.mark.proves("A48", part="one mail language for all")
@pytest.mark.parametrize("language", Language)
async def test_all_mails_of_a_share_are_in_its_language_whatever_the_recipients_speak(
    notify: Notify, language: Language
) -> None:
    for speaks in Language:
        recipient = notify.owners.person(f"Dr {speaks}", language=speaks)
        await notify.created(notify.owners.bucket(recipient, language=language))

    mails = await notify.deliver()

    assert [SUBJECTS[language]] * 4 == [mail.subject for mail in mails]
    assert {language.value} == {mail.message["Content-Language"] for mail in mails}
    assert {1} == {mail.html.count(f'lang="{language}"') for mail in mails}


@pytest.mark.proves("SHR-21")
@pytest.mark.parametrize(
    ("language", "word"),
    list(zip(Language, ("Urgent: ", "Dringend: ", "Urgent : ", "Dringend: "), strict=True)),
)
async def test_urgent_stands_before_the_subject(notify: Notify, language: Language, word: str) -> None:
    await notify.created(notify.owners.bucket(urgent=True, language=language))

    (mail,) = await notify.deliver()

    assert word + SUBJECTS[language] == mail.subject
    assert "high" == mail.message["Importance"]


def test_every_message_has_every_part_in_every_language() -> None:
    parts = ["subject.{}.txt", "body.{}.txt", "body.{}.html"]
    needed = {
        *(f"{message}/{part.format(each)}" for message in Message for part in parts for each in Language),
        *(f"one_time_code/text.{each}.txt" for each in Language),
    }
    shared = {"share_created/exams.txt", "share_created/exams.html", "share_created/message.html"}
    there = {str(path.relative_to(FOLDER)) for path in Path(FOLDER).glob("*/*")}

    assert needed | shared == there


@pytest.mark.proves("A52", part="text message")
@pytest.mark.parametrize("language", Language)
def test_a_text_message_holds_the_code_only_and_fits_into_one(language: Language) -> None:
    text = TEMPLATES.code(language, "012345")

    assert ["012345", "10"] == re.findall("[0-9]+", text)
    assert len(text) <= 160
    assert text.replace("à", "").isascii()  # GSM 03.38 has them all, so that it fits into one


@pytest.mark.proves("A52")
def test_a_template_cannot_tell_anything_else() -> None:
    surroundings = {"day", "link_base", "language", "exam", "line"}
    allowed = {
        "share_created": {"sender", "exams", "message", "link", "urgent"},
        "privilege_expiring": {"holder", "facility", "expires_on"},
        "privilege_expiring_office": {"holder", "facility", "expires_on"},
        "one_time_code": {"code"},
    }
    for path in FOLDER.glob("*/*"):
        used = meta.find_undeclared_variables(Environment().parse(path.read_text()))
        assert used <= allowed[path.parent.name] | surroundings, path
        assert set(re.findall(r"exam\.(\w+)", path.read_text())) <= set(Exam.__dataclass_fields__)
    assert {"initials", "description", "study_date"} == set(Exam.__dataclass_fields__)


# Hostile names, descriptions, messages

HOSTILE = [
    "Vos\r\nBcc: mallory@evil.example\r\n\r\nnew body",
    "Vos\nSubject: hacked",
    "Vos\rX",
    "Vos\0nul",
    "Vos\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029X",
    "\u202egnp.exe\u202c",
    "\u2066isolated\u2069",
    "<script>alert(1)</script><img src=x onerror=y>",
    "{{ 7 * 7 }}{% raw %}",
    "\"quoted\" & 'single' \\ %s %n",
    ".\r\n.\r\nQUIT\r\n",
    "名前 Ωmega 🩻",
    "=?utf-8?q?encoded?=",
    "x" * 10_000,
    "\ud800 lone surrogate",
    "",
]


@pytest.mark.proves("SEC-12", part="mails: header injection")
async def test_what_people_typed_stays_text(notify: Notify) -> None:
    owners = notify.owners
    jane = owners.person("Jane Roe")
    await notify.created(owners.bucket(jane, owners.person("Vos")))
    for hostile in HOSTILE:
        sender = owners.person(hostile, email="ada@clinic.example")
        case_id = owners.exam(hostile, hostile)
        await notify.created(owners.bucket(jane, sender, case_ids=(case_id,), message=hostile))

    usual, *mails = await notify.deliver()

    assert len(HOSTILE) == len(mails)
    for mail in mails:
        assert usual.message.keys() == mail.message.keys()
        assert (usual.to, usual.subject) == (mail.to, mail.subject)
        kinds = [part.get_content_type() for part in mail.message.walk()]
        assert ["multipart/alternative", "text/plain", "text/html"] == kinds
        for text in (mail.text, mail.html):
            assert not re.search("[\0-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", text)
            assert "49" not in text
        assert not re.search("<(script|img)", mail.html)
        # Whatever the sender types, it stands quoted below the link.
        assert mail.text.count(LINK) == 1
        head, _, message = mail.text.partition("Message from the sender:\n")
        assert len(head.splitlines()) == 6 + bool(message)
        assert all(line.startswith("> ") for line in message.splitlines())
        assert len(mail.text) < 3_500


@given(text=st.text())
def test_no_text_breaks_a_line_or_a_page(text: str) -> None:
    line = one_line(text)

    assert len(line.splitlines()) <= 1
    assert line == line.strip()
    assert all(len(each.splitlines()) <= 1 for each in lines(text))
    line.encode()


@settings(max_examples=25)
@given(name=st.text(max_size=50), message=st.text(max_size=200), description=st.text(max_size=50))
def test_no_text_adds_a_header_or_a_part(name: str, message: str, description: str) -> None:
    values = {
        "urgent": False,
        "sender": one_line(name),
        "exams": [Exam(one_line(name), one_line(description), None)],
        "message": lines(message),
        "link": "L" * 43,
    }
    letter = TEMPLATES.letter(Message.SHARE_CREATED, Language.FR, "jane@x.example", "r", values)
    content = _written(letter, addressed("us@group.example"), addressed(letter.to), NOON)

    assert content.endswith(b"\r\n.\r\n")
    assert b"\r\n.\r\n" not in content[:-5]
    head = content.partition(b"\r\n\r\n")[0]
    assert [
        b"From", b"To", b"Subject", b"Date", b"Message-ID", b"Auto-Submitted", b"Content-Language",
        b"MIME-Version", b"Content-Type",
    ] == re.findall(rb"(?m)^([A-Za-z-]+):", head)  # fmt: skip
    assert max(map(len, content.split(b"\r\n"))) <= 998


@pytest.mark.parametrize(
    "text", ["2026103", "20261301", "20260230", "2026.10.30", "٢٠٢٦١٠٣٠", "", "20261030\0"]
)
def test_a_date_that_is_none_is_not_told(text: str) -> None:
    assert study_date(text) is None


# Addresses


ODD = [
    ("jane@clinic.example", "jane@clinic.example"),
    ("jane+tag=x/y'z{}|~@clinic.example", "jane+tag=x/y'z{}|~@clinic.example"),
    ('"jane roe"@clinic.example', '"jane roe"@clinic.example'),
    ('"a@b, c"@clinic.example', '"a@b, c"@clinic.example'),
    (r'"a\"b"@clinic.example', r'"a\"b"@clinic.example'),
    ("jane@münchen.example", "jane@xn--mnchen-3ya.example"),
    ("jürgen@münchen.example", "jürgen@xn--mnchen-3ya.example"),
    ("JANE@Clinic.Example", "JANE@Clinic.Example"),
]


async def test_odd_addresses_are_written_to(notify: Notify) -> None:
    for address, _ in ODD:
        await notify.created(notify.owners.bucket(notify.owners.person("Jane", email=address)))

    mails = await notify.deliver()

    assert [written for _, written in ODD] == [mail.to for mail in mails]
    assert [written for _, written in ODD] == [mail.message["To"] for mail in mails]
    assert ["jürgen@xn--mnchen-3ya.example"] == [mail.to for mail in mails if "SMTPUTF8" in mail.options]


@pytest.mark.proves("SEC-12", part="mails: command injection")
@pytest.mark.parametrize(
    "address",
    [
        "jane@clinic.example\r\nRCPT TO:<mallory@evil.example>",
        "jane@clinic.example>\r\nDATA",
        "jane@clinic.example, mallory@evil.example",
        "<jane@clinic.example>",
        "Jane <jane@clinic.example>",
        "jane roe@clinic.example",
        "jane@@clinic.example",
        ".jane@clinic.example",
        "jane..roe@clinic.example",
        '"unclosed@clinic.example',
        '"nul\0"@clinic.example',
        '"line\r\n"@clinic.example',
        "jane\u202e@clinic.example",
        "jane\u2028@clinic.example",
        "jane\ud800@clinic.example",
        "jane@clinic..example",
        "jane@-clinic.example",
        "jane@clinic.example SIZE=1",
        "jane@[127.0.0.1]",
        "jane@clinic_x.example",
        "x" * 65 + "@clinic.example",
        "jane@" + "x" * 64 + ".example",
        "jane",
        "@",
        "jane@",
        "@clinic.example",
    ],
)
def test_what_is_not_one_address_is_no_address(address: str) -> None:
    with pytest.raises(Undelivered):
        addressed(address)


async def test_to_what_is_no_address_nothing_is_said(notify: Notify) -> None:
    hostile = "jane@clinic.example>\r\nRCPT TO:<mallory@evil.example"
    await notify.created(notify.owners.bucket(notify.owners.person("Jane", email=hostile)))

    assert [] == await notify.deliver()
    notice = await notify.only()
    assert (State.DEAD, "the address is not one that mail can be sent to") == (
        notice.state,
        notice.last_error,
    )
    assert 0 == notify.server.connections


async def test_a_local_part_that_the_server_cannot_take_is_told_as_the_reason(notify: Notify) -> None:
    notify.server.smtputf8 = False
    await notify.created(notify.owners.bucket(notify.owners.person("Jane", email="jürgen@clinic.example")))

    assert [] == await notify.deliver()
    assert "the mail server takes no address with such a local part" == (await notify.only()).last_error


@pytest.mark.proves("SEC-12", part="mails: header injection")
@pytest.mark.parametrize("subject", ["a\r\nBcc: x@y.example", "a\nb", "a\rb", "a\0b", "a\x7fb"])
def test_a_subject_is_one_line_or_no_mail_is_written(subject: str) -> None:
    letter = Letter("a@b.example", subject, "text", "html", "r", Language.EN)

    with pytest.raises(ValueError, match="control character"):
        _written(letter, addressed("us@group.example"), addressed(OFFICE), NOON)


def test_a_dot_at_the_beginning_of_a_line_is_doubled() -> None:
    letter = Letter("a@b.example", "s", ".\n..x\n", "<p>\n.\n</p>\n", "r", Language.EN)

    content = _written(letter, addressed("us@group.example"), addressed(OFFICE), NOON)

    assert b"\r\n...x\r\n" in content
    assert [b"."] == [line for line in content.split(b"\r\n") if re.match(rb"\.(?!\.)", line)]


async def test_a_template_that_fails_leaves_the_notice_waiting_and_the_sender_alive(notify: Notify) -> None:
    bucket = notify.owners.bucket()
    await notify.created(bucket)
    notify.owners.bucket(id=bucket.id, urgent=None, message=None)

    assert [] == await notify.deliver()

    notice = await notify.only()
    assert (State.WAITING, "unexpected error, see the log") == (notice.state, notice.last_error)
