"""Sharing as a process: `python -m services sharing`."""

import secrets
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt, SecretStr

from kernel.clock import Clock
from kernel.ids import NewId
from plumbing import permitted, runtime
from plumbing.config import Address, ServiceSettings
from plumbing.service import open_parts
from services.sharing import api, events
from services.sharing.asking import Telling
from services.sharing.clients import AccessClient, NotifyClient
from services.sharing.codes import CodeRepairs, Codes
from services.sharing.extending import Extending
from services.sharing.inbox import Inbox
from services.sharing.links import Links
from services.sharing.otp import MIN_PEPPER_CHARACTERS, Pepper
from services.sharing.policies import Policies
from services.sharing.repairs import Repairs
from services.sharing.store import SharingTransaction
from services.sharing.usecases import Shares

NAME = "sharing"


class Settings(ServiceSettings):
    """What sharing is told beyond what every service is.

    Attributes:
        access_address, notify_address: gRPC addresses of the services it asks.
        link_secret: makes the links of mails; at least 32 characters, the same for good.
        code_pepper: what digests of one-time codes are made under; at least 32 characters.
        max_recipients: of one share (A50).
        abandon_after_s: after this long a pending share is given up; longer than calls last.
    """

    prefix = "READROOM_SHARING_"

    access_address: Address
    notify_address: Address
    link_secret: Annotated[SecretStr, Field(min_length=32)]
    code_pepper: Annotated[SecretStr, Field(min_length=MIN_PEPPER_CHARACTERS)]
    max_recipients: Annotated[PositiveInt, Field(le=99)] = 3
    abandon_after_s: PositiveFloat = 60


async def build(
    settings: Settings, clock: Clock, new_id: NewId, resources: AsyncExitStack
) -> runtime.Application:
    parts = await open_parts(NAME, settings, SharingTransaction, clock, new_id, resources)
    database = parts.database
    to_access = parts.asks("access", settings.access_address)
    to_notify = parts.asks("notify", settings.notify_address)

    access = AccessClient(to_access)
    telling = Telling(database, access)
    links = Links(settings.link_secret.get_secret_value())
    texts = NotifyClient(to_notify)
    shares = Shares(database, access, texts, telling, links, new_id, settings.max_recipients)
    extending = Extending(database, access, telling)
    inbox = Inbox(database, access)
    pepper = Pepper(settings.code_pepper.get_secret_value())
    codes = Codes(database, access, texts, telling, pepper, secrets.randbelow, new_id)
    code_repairs = CodeRepairs(database, access)
    policies = Policies(database, access)
    repairs = Repairs(database, telling, timedelta(seconds=settings.abandon_after_s))

    api.serve(parts.server, api.SharingApi(shares, extending, inbox, codes, policies))
    return parts.application(
        events.hearings(repairs, access),
        permitted.asks(to_access),
        tasks={
            "sweep": partial(events.sweep, repairs, code_repairs),
            "tell": partial(events.tell, repairs, code_repairs),
        },
    )


def main(environ: Mapping[str, str]) -> int:
    return runtime.run(NAME, Settings, build, environ)
