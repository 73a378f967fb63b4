"""Codes by text message, over real HTTP: accepted at once or not at all."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from kernel.errors import Conflict, Denied, Invalid, ReadroomError, Unavailable
from kernel.language import Language
from services.notify.channels import TextGateway
from services.notify.domain import Breaker
from services.notify.rendering import Templates
from services.notify.usecases import Codes
from tests.clocks import NOON, Clock
from tests.notify.builders import LINK_BASE
from tests.notify.system import TextGateway as Server
from tests.notify.system import text_gateway

MOBILE = "+31612345678"
AWAY = "the text gateway does not answer"


class Texts:
    """Codes, the gateway they go to, and a clock."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.clock = Clock()
        self.gateway = TextGateway(server.url, "sesame", ["NL", "DE"], 0.2, self.clock)
        self.codes = Codes(self.gateway, Templates(LINK_BASE))

    async def send(self, number: str = MOBILE, code: str = "123456") -> None:
        await self.codes.send_text(number, code, Language.NL)

    async def fails(self, error: type[ReadroomError], sentence: str | None = None, **what: str) -> None:
        with pytest.raises(error, match=sentence):
            await self.send(**what)


@pytest.fixture
async def texts() -> AsyncIterator[Texts]:
    async with text_gateway() as server:
        made = Texts(server)
        yield made
        await made.gateway.close()


@pytest.mark.proves("NTF-3")
async def test_a_code_is_posted_once_with_the_token_and_nothing_else(texts: Texts) -> None:
    await texts.send()

    assert [{"to": MOBILE, "text": "Uw code is 123456. Hij is 10 minuten geldig. Geef hem aan niemand."}] == (
        texts.server.taken
    )
    assert ["Bearer sesame"] == texts.server.tokens


@pytest.mark.parametrize(
    ("status", "word"),
    [
        *((status, Conflict) for status in (301, 307, 400, 401, 404, 429, 500, 503)),
        *((status, Unavailable) for status in (502, 504, None)),
    ],
)
@pytest.mark.proves("NTF-3", part="whether a gateway that fails has the text")
async def test_what_is_surely_not_sent_has_another_word_than_what_nobody_knows(
    texts: Texts, status: int | None, word: type[ReadroomError]
) -> None:
    texts.server.status = status

    await texts.fails(word)
    assert 1 == texts.server.asked  # neither repeated nor carried elsewhere

    texts.server.status = 200
    await texts.send()


async def test_of_a_gateway_that_takes_too_long_nobody_knows_but_one_that_is_away_has_nothing(
    texts: Texts,
) -> None:
    texts.server.delay_s = 1
    await texts.fails(Unavailable, AWAY)

    away = TextGateway("http://127.0.0.1:9/texts", "sesame", ["NL"], 0.2, texts.clock)
    with pytest.raises(Conflict, match="the text gateway cannot be reached"):
        await away.send(MOBILE, "text")
    await away.close()


@pytest.mark.parametrize(
    ("number", "error"),
    [
        ("+4915112345678", None),
        ("+32470123456", Denied),  # Belgium is not in the list of this test
        ("+12025550123", Denied),
        ("+8801712345678", Denied),
        ("+31201234567", Invalid),  # a landline
        ("+319001234567", Invalid),
        ("0612345678", Invalid),
        ("+31 6 12345678", Invalid),
        ("+316123456789999", Invalid),
        ("+31612345678;ext=1", Invalid),
        ("+31612345678\r\nX: y", Invalid),
        ("tel:+31612345678", Invalid),
        ("+٣١٦١٢٣٤٥٦٧٨", Invalid),
        ("", Invalid),
        ("+", Invalid),
        ("+" + "1" * 5000, Invalid),
    ],
)
@pytest.mark.proves("SEC-10", part="countries of the list")
async def test_only_mobile_numbers_of_the_countries_of_the_list_are_sent_to(
    texts: Texts, number: str, error: type[ReadroomError] | None
) -> None:
    if error is None:
        await texts.send(number)
    else:
        await texts.fails(error, number=number)
    assert (0 if error else 1) == texts.server.asked


@pytest.mark.parametrize("code", ["", "12345", "1234567", "12345a", "١٢٣٤٥٦", "123456\n", "visit evil.ex"])
async def test_only_six_digits_are_a_code(texts: Texts, code: str) -> None:
    await texts.fails(Invalid, "six digits", code=code)
    assert 0 == texts.server.asked


@pytest.mark.proves("SEC-10", part="circuit breaker")
async def test_a_gateway_that_failed_five_times_is_left_alone_for_half_a_minute(texts: Texts) -> None:
    texts.server.status = 503
    for _ in range(8):
        await texts.fails(Conflict)
    assert 5 == texts.server.asked

    texts.clock.pass_by(timedelta(seconds=30))
    await texts.fails(Conflict)
    await texts.fails(Conflict)
    assert 6 == texts.server.asked

    texts.server.status = 202
    texts.clock.pass_by(timedelta(seconds=30))
    await texts.send()
    await texts.send()
    assert 2 == len(texts.server.taken)


async def test_what_is_wrong_with_one_number_does_not_count_against_the_gateway(texts: Texts) -> None:
    texts.server.status = 422
    for _ in range(8):
        await texts.fails(Conflict)
    assert 8 == texts.server.asked


def test_a_success_between_failures_begins_the_count_anew() -> None:
    breaker = Breaker()
    for _ in range(3):
        for _ in range(4):
            breaker.failed(NOON)
        breaker.succeeded()
        assert breaker.lets(NOON)
