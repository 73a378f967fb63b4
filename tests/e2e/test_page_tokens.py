"""Position: anybody with a login who may list something. A page token that they forge is Invalid."""

import base64
import secrets
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor

from demo.cast import ADMIN
from demo.world import World
from kernel.errors import Invalid
from plumbing.components import SERVICES
from readroom.client import Readroom

ID = str(uuid4())


def listing() -> Mapping[str, list[MethodDescriptor]]:
    """Every method of every contract that takes a page token, by service."""
    return {
        name: [
            method
            for method in descriptor_pool.Default()
            .FindServiceByName(f"wire.{name}.v1.{name.capitalize()}Service")
            .methods
            if "page_token" in method.input_type.fields_by_name
        ]
        for name in SERVICES
    }


def encoded(json: str | bytes) -> str:
    return base64.urlsafe_b64encode(json if isinstance(json, bytes) else json.encode()).decode()


FORGED = [
    "x",
    "=",
    "ß",
    "\x00",
    "x" * 100_000,
    encoded(b"\xff" * 100),
    *(encoded(secrets.token_bytes(length)) for length in (1, 7, 64)),
    *(
        encoded(json)
        for json in (
            "null",
            "true",
            "99999999999999999999999",
            "1e999",
            "[]",
            "{}",
            "[" * 1500,
            r'"\u0000"',
            r'"\ud800"',
            f'["{ID}","{ID}","{ID}"]',
            f'["\\u0000","{ID}"]',
            f'{{"received_at":"2026-11-01T12:00:00","case_id":"{ID}"}}',
            f'{{"received_at":"0001-01-01T00:00:00+14:00","case_id":"{ID}"}}',
            f'{{"received_at":"9999-12-31T23:59:59-14:00","case_id":"{ID}"}}',
            '{"received_at":"2026-11-01T12:00:00Z","case_id":"1"}',
        )
    ),
]


@pytest.mark.parametrize("name", [name for name, methods in listing().items() if methods])
async def test_a_forged_page_token_is_invalid(world: World, name: str) -> None:
    readroom: Readroom = await world.acting_as(ADMIN)
    for method in listing()[name]:
        request_type: Any = message_factory.GetMessageClass(method.input_type)
        filled = {
            field.name: ID
            for field in method.input_type.fields
            if field.name.endswith("_id") and field.type == field.TYPE_STRING and not field.is_repeated
        }
        for token in FORGED:
            with pytest.raises(Invalid) as refusal:
                await getattr(getattr(readroom, name), method.name)(request_type(page_token=token, **filled))
            assert refusal.value.field == "page_token", (method.name, token[:80])


def test_it_knows_the_lists() -> None:
    assert sum(map(len, listing().values())) >= 12
