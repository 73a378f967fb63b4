"""Notify as a process: `python -m services notify`."""

import ssl
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    FilePath,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    model_validator,
)

from kernel.clock import Clock
from kernel.countries import DEFAULT
from kernel.ids import NewId
from kernel.language import Language
from kernel.mailboxes import mailbox
from plumbing import delivering, permitted, runtime, timers
from plumbing.config import Address, Countries, ServiceSettings, listed
from plumbing.delivering import Sender
from plumbing.healing import HEAL_INTERVAL_S, Healing
from plumbing.remote import is_loopback
from plumbing.service import open_parts
from services.notify import api, events
from services.notify.channels import MailServer, TextGateway
from services.notify.clients import AccessClient, SharingClient
from services.notify.reminders import Reminders
from services.notify.rendering import Templates
from services.notify.store import NotifyTransaction
from services.notify.usecases import NAME, Codes, Letters, Notices, Office


def _mail_address(value: str) -> str:
    try:
        mailbox(value)
    except ValueError as error:
        raise ValueError("expected a mail address") from error
    return value


def _encrypted(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise ValueError("expected a URL that starts with https://")
    return url


MailAddress = Annotated[str, AfterValidator(_mail_address)]
Url = Annotated[str, AfterValidator(_encrypted)]


class Settings(ServiceSettings):
    """What notify is told beyond what every service is.

    Attributes:
        access_address, sharing_address: gRPC addresses of the services it asks.
        smtp_address: the mail server that takes its mails.
        smtp_tls: `starttls`, `tls` from the first byte, or `none`: only for a server on this machine.
        smtp_ca: PEM of the authority of the mail server's certificate; by default those of the system.
        smtp_user, smtp_password: who it is there; empty where the server does not ask.
        smtp_timeout_s: for each answer of the mail server.
        mail_from: the address that mails come from.
        link_base: what stands before the 43 characters of a link, as in `https://images.example/shared/`.
        text_url: where text messages are posted.
        text_ca: PEM of the authority of the text gateway's certificate; by default those of the system.
        text_token: the bearer token that goes with them.
        text_timeout_s: for the text gateway to accept one; less than the 3 s that sharing waits.
        text_countries: ISO 3166 codes, separated by commas: numbers of other countries are refused. Access is
            told the same, to warn who registers such a number.
        reminder_days: how many days before a privilege expires reminders are sent (A51); empty for none.
        reminders_to: the address of the office that is reminded beside the holder; empty for none.
        reminders_language: the language of what is sent there: `en`, `nl`, `fr` or `de`.
    """

    prefix = "READROOM_NOTIFY_"

    access_address: Address
    sharing_address: Address
    smtp_address: Address
    smtp_tls: Literal["starttls", "tls", "none"] = "starttls"
    smtp_ca: FilePath | None = None
    smtp_user: str = ""
    smtp_password: SecretStr = SecretStr("")
    smtp_timeout_s: PositiveFloat = 30
    mail_from: MailAddress
    link_base: Url
    text_url: Url
    text_ca: FilePath | None = None
    text_token: SecretStr
    text_timeout_s: PositiveFloat = 2.5
    text_countries: Countries = DEFAULT
    reminder_days: Annotated[tuple[PositiveInt, ...], BeforeValidator(listed)] = (30, 7, 1)
    reminders_to: MailAddress | Literal[""] = ""
    reminders_language: Language = Language.EN

    @model_validator(mode="after")
    def _mail_leaves_this_machine_encrypted(self) -> Self:
        host = self.smtp_address.rpartition(":")[0].strip("[]")
        if self.smtp_tls == "none" and not is_loopback(host):
            raise ValueError(
                "`READROOM_NOTIFY_SMTP_TLS` is `none`: mail leaves this machine encrypted or not at all"
            )
        return self


async def build(
    settings: Settings, clock: Clock, new_id: NewId, resources: AsyncExitStack
) -> runtime.Application:
    parts = await open_parts(NAME, settings, NotifyTransaction, clock, new_id, resources, pool_size=16)
    database = parts.database
    to_access = parts.asks("access", settings.access_address)
    to_sharing = parts.asks("sharing", settings.sharing_address)
    host, _, port = settings.smtp_address.rpartition(":")
    mail = MailServer(
        host.strip("[]"),
        int(port),
        settings.smtp_tls,
        settings.smtp_user,
        settings.secret("smtp_password"),
        settings.mail_from,
        settings.smtp_timeout_s,
        clock,
        ssl.create_default_context(cafile=settings.smtp_ca),
    )
    resources.push_async_callback(mail.close)
    texts = TextGateway(
        settings.text_url,
        settings.secret("text_token"),
        settings.text_countries,
        settings.text_timeout_s,
        clock,
        ssl.create_default_context(cafile=settings.text_ca),
    )
    resources.push_async_callback(texts.close)

    access, sharing = AccessClient(to_access), SharingClient(to_sharing)
    press = Templates(settings.link_base)
    office = Office(settings.reminders_to, settings.reminders_language)
    notices = Notices(database, sharing, access)
    reminders = Reminders(database, access, settings.reminder_days, office)
    letters = Letters(sharing, access, press, clock, office)
    sender = Sender("notice", database, letters.write, mail, notices.settled)

    api.serve(parts.server, api.NotifyApi(notices, Codes(texts, press)))
    return parts.application(
        events.hearings(notices, reminders),
        permitted.asks(to_access),
        tasks={
            "send": partial(delivering.run, sender, database.asked, events.SENDERS),
            "plan": partial(events.plan, reminders),
            "heal": Healing(database, reminders.kinds(), new_id()).run,
            "forget": partial(timers.every, HEAL_INTERVAL_S, notices.forget),
            "count": partial(events.count, notices),
        },
    )


def main(environ: Mapping[str, str]) -> int:
    return runtime.run(NAME, Settings, build, environ)
