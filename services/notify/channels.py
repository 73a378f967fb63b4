"""How messages leave: mails over SMTP (RFC 5321), text messages over an HTTP port.

What a server says about a mail is told on without its words, which may quote address and content: the code
alone (RFC 5321 4.2, RFC 3463) goes into lists and logs.
"""

import re
import ssl
from binascii import b2a_qp
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from email.header import Header
from email.utils import format_datetime

import aiohttp
import aiosmtplib

from kernel.clock import Clock
from kernel.countries import mobile_number, serves
from kernel.delivery import Event, Undelivered
from kernel.errors import Conflict, Denied, Invalid, Unavailable
from kernel.mailboxes import Mailbox
from plumbing.renewed import Text, asked
from services.notify.domain import Breaker, Letter, addressed

_CRLF = "\r\n"
_CONTROL = re.compile("[\x00-\x1f\x7f]")

IDLE_CONNECTIONS = 16
"""Kept for the next mail; a server that has closed one meanwhile is asked anew."""


_UNREACHED: dict[type[BaseException], str] = {
    aiosmtplib.SMTPAuthenticationError: "the mail server refused our password",
    ssl.SSLError: "the mail server shows no certificate that is trusted",
    aiosmtplib.SMTPException: "the mail server cannot be reached",
    OSError: "the mail server cannot be reached",
}
"""Why there is no connection, the first that fits; nothing of it is the mail's fault."""


class MailServer:
    """Mail, handed to one server that delivers it.

    Args:
        host, port: of the server.
        tls: `starttls`, `tls` from the first byte, or `none`.
        user, password: empty for a server that knows us otherwise.
        sender: the address that mails come from.
        timeout_s: for each answer of the server.
        clock: for the date of a mail.
        trust: whose certificates are accepted; by default those of the system.
    """

    def __init__(
        self,
        host: str,
        port: int,
        tls: str,
        user: str,
        password: Text,
        sender: str,
        timeout_s: float,
        clock: Clock,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._user = user
        self._password = asked(password)
        self._sender = addressed(sender)
        self._timeout_s = timeout_s
        self._clock = clock
        self._trust = trust or ssl.create_default_context()
        self._idle: list[aiosmtplib.SMTP] = []

    @asynccontextmanager
    async def envelope(self, letter: Letter) -> AsyncIterator["_Envelope"]:
        """A connection on which sender and recipient of the letter are accepted.

        Raises Undelivered: nothing of the letter has left yet, whatever the server does.
        """
        to = addressed(letter.to)
        smtp = await self._addressed(to)
        envelope = _Envelope(smtp, _written(letter, self._sender, to, self._clock.now()), self._timeout_s)
        try:
            yield envelope
        finally:
            if envelope.is_empty and len(self._idle) < IDLE_CONNECTIONS:
                self._idle.append(smtp)
            else:
                smtp.close()

    async def close(self) -> None:
        while self._idle:
            smtp = self._idle.pop()
            with suppress(aiosmtplib.SMTPException, OSError):
                await smtp.quit(timeout=1)

    async def _addressed(self, to: Mailbox) -> aiosmtplib.SMTP:
        while self._idle:
            smtp = self._idle.pop()
            try:
                await self._address(smtp, to)
            except aiosmtplib.SMTPServerDisconnected:
                continue  # it was idle for too long
            except BaseException:
                smtp.close()
                raise
            return smtp
        smtp = await self._connected()
        try:
            await self._address(smtp, to)
        except aiosmtplib.SMTPServerDisconnected as error:
            raise Undelivered(Event.LATER, "the mail server ended the connection") from error
        except BaseException:
            smtp.close()
            raise
        return smtp

    async def _connected(self) -> aiosmtplib.SMTP:
        smtp = aiosmtplib.SMTP(
            hostname=self._host,
            port=self._port,
            local_hostname=self._sender.domain,
            timeout=self._timeout_s,
            use_tls=self._tls == "tls",
            start_tls=False,
            tls_context=self._trust,
        )
        try:
            await smtp.connect()
            await smtp.ehlo()
            if self._tls == "starttls":
                if not smtp.supports_extension("STARTTLS"):
                    raise Undelivered(Event.AWAY, "the mail server offers no STARTTLS")
                await smtp.starttls()
                await smtp.ehlo()
            if self._user:
                await smtp.login(self._user, self._password())
        except BaseException as error:
            smtp.close()
            for kind, reason in _UNREACHED.items():
                if isinstance(error, kind) or isinstance(error.__cause__, kind):
                    raise Undelivered(Event.AWAY, reason) from error
            raise
        return smtp

    async def _address(self, smtp: aiosmtplib.SMTP, to: Mailbox) -> None:
        options = []
        if not str(to).isascii():
            if not smtp.supports_extension("SMTPUTF8"):
                raise Undelivered(Event.REFUSED, "the mail server takes no address with such a local part")
            options.append(b"SMTPUTF8")
        await self._say(smtp, b"MAIL", b"FROM:<%s>" % str(self._sender).encode(), *options)
        await self._say(smtp, b"RCPT", b"TO:<%s>" % str(to).encode())

    async def _say(self, smtp: aiosmtplib.SMTP, command: bytes, *arguments: bytes) -> None:
        try:
            answer = await smtp.execute_command(command, *arguments)
        except TimeoutError as error:
            raise Undelivered(Event.LATER, "the mail server does not answer") from error
        except aiosmtplib.SMTPServerDisconnected:
            raise
        except aiosmtplib.SMTPException as error:
            raise Undelivered(Event.LATER, "the mail server answered what is no SMTP") from error
        if not 200 <= answer.code < 300:
            raise _no(answer, command.decode())


class _Envelope:
    """One mail on its way.

    Attributes:
        is_empty: whether the connection can be used for another mail.
    """

    def __init__(self, smtp: aiosmtplib.SMTP, content: bytes, timeout_s: float) -> None:
        self.is_empty = False
        self._smtp = smtp
        self._content = content
        self._timeout_s = timeout_s

    async def hand_over(self) -> None:
        """DATA; until the server asks for the content it has not taken the mail, whatever happens.

        So it is said in two steps: `SMTP.data` does not tell whether the connection was lost before or after.
        """
        try:
            answer = await self._smtp.execute_command(b"DATA")
        except (aiosmtplib.SMTPException, TimeoutError, OSError) as error:
            raise Undelivered(Event.LATER, "the mail server ended the connection before the mail") from error
        if answer.code != 354:
            raise _no(answer, "DATA")
        try:
            protocol = self._smtp.protocol
            if protocol is None:
                raise ConnectionError
            protocol.write(self._content)
            answer = await protocol.read_response(timeout=self._timeout_s)
        except (aiosmtplib.SMTPException, TimeoutError, OSError) as error:
            raise Undelivered(
                Event.LOST, "the connection was lost when the mail server had the mail"
            ) from error
        if not 200 <= answer.code < 300:
            raise _no(answer, "the mail")
        self.is_empty = True


def _no(answer: aiosmtplib.SMTPResponse, to: str) -> Undelivered:
    event = Event.REFUSED if 500 <= answer.code < 600 else Event.LATER
    enhanced = re.match(r"[245]\.\d{1,3}\.\d{1,3}(?=\s|$)", answer.message)
    code = f"{answer.code} {enhanced[0]}" if enhanced else str(answer.code)
    return Undelivered(event, f"the mail server answered {code} to {to}")


def _written(letter: Letter, sender: Mailbox, to: Mailbox, now: datetime) -> bytes:
    """The mail as it goes over the wire (RFC 5322, 2046): CRLF, dots doubled, and the last dot.

    Written here and not by `EmailMessage`, which takes 6 ms for it, thirty times as long: as much as all else
    that is done for a mail.
    """
    if _CONTROL.search(letter.subject):
        raise ValueError("a control character in a subject")
    boundary = f"=_{letter.reference}"  # quoted-printable never begins with it
    head = [
        f"From: {sender}",
        f"To: {to}",
        f"Subject: {Header(letter.subject, header_name='Subject').encode(linesep=_CRLF)}",
        f"Date: {format_datetime(now)}",
        # The same at each attempt, so that a mail sent again is known as the same one.
        f"Message-ID: <{letter.reference}@{sender.domain}>",
        "Auto-Submitted: auto-generated",  # RFC 3834: no answering machine answers
        *(["Importance: high"] if letter.urgent else []),
        f"Content-Language: {letter.language}",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/alternative; boundary="{boundary}"',
        "",
    ]
    body: list[str] = []
    for kind, content in (("plain", letter.text), ("html", letter.html)):
        encoded = b2a_qp(content.encode(), istext=True).decode()
        body += [
            f"--{boundary}",
            f'Content-Type: text/{kind}; charset="utf-8"',
            "Content-Transfer-Encoding: quoted-printable",
            "",
            *(f".{line}" if line.startswith(".") else line for line in encoded.split("\n")),
        ]
    return _CRLF.join([*head, *body, f"--{boundary}--", ".", ""]).encode()


_UNSURE = (502, 504)
"""What stands before the gateway does not know what became of the message (RFC 9110 15.6)."""


class TextGateway:
    """Text messages, posted as JSON (`to`, `text`) to a gateway that sends them.

    Args:
        url: where to post.
        token: the bearer token.
        countries: ISO 3166 codes of the countries whose numbers are sent to, so that nobody runs up a bill
            with numbers elsewhere.
        timeout_s: for the whole request.
        clock: for the circuit breaker.
        context: verifies the gateway; by default with the authorities of the system.
    """

    def __init__(
        self,
        url: str,
        token: Text,
        countries: Collection[str],
        timeout_s: float,
        clock: Clock,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._url, self._token = url, asked(token)
        self.countries = frozenset(countries)
        self._clock = clock
        self._breaker = Breaker()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context or True),
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def send(self, number: str, text: str) -> None:
        """Raises Conflict where the gateway has surely not taken it, Unavailable where nobody knows; Invalid
        and Denied for what is no mobile number of those countries."""
        self._check(number)
        if not self._breaker.lets(self._clock.now()):
            raise Conflict("the text gateway does not answer: try again in a minute")
        try:
            # A redirection would take number and code to somebody else.
            async with self._session.post(
                self._url,
                json={"to": number, "text": text},
                headers={"Authorization": f"Bearer {self._token()}"},
                allow_redirects=False,
            ) as answer:
                status = answer.status
        except aiohttp.ClientConnectorError as error:
            self._breaker.failed(self._clock.now())
            raise Conflict("the text gateway cannot be reached: try again") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._breaker.failed(self._clock.now())
            raise Unavailable("the text gateway does not answer: try again") from error
        if 200 <= status < 300:
            self._breaker.succeeded()
            return
        if status in (400, 404, 422):  # about this one number
            self._breaker.succeeded()
        else:
            self._breaker.failed(self._clock.now())
        word = Unavailable if status in _UNSURE else Conflict
        raise word(f"the text gateway did not take the message: it answered {status}")

    async def close(self) -> None:
        await self._session.close()

    def _check(self, number: str) -> None:
        try:
            is_canonical = mobile_number(number) == number
        except ValueError:
            is_canonical = False
        if not is_canonical:
            raise Invalid("`mobile_number` is not a mobile number in E.164 form", field="mobile_number")
        if not serves(self.countries, number):
            raise Denied("no text messages are sent to that country", field="mobile_number")
