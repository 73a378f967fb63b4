"""`readroom audit verify`: every service verifies its own audit, for whoever may (SEC-15)."""

import asyncio
from typing import Any

import asyncpg
import pytest

from local.processes import until
from local.system import LocalSystem
from plumbing.components import PROCESSES
from tests.readroom.conftest import Run


def execute(system: LocalSystem, service: str, sql: str) -> None:
    """As the owner of the service's tables, past the service."""

    async def run() -> None:
        connection = await asyncpg.connect(system.servers.database_url(service))
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    asyncio.run(run())


@pytest.fixture
def auditor(admin: Run) -> Run:
    held = ("access.admin", "facility.admin", "gateway.admin", "audit.read")
    asked = [word for permission in held for word in ("--permission", permission)]
    assert admin("user", "change", "admin", *asked).code == 0
    return admin


def test_who_may_not_read_the_audit_has_nothing_verified(admin: Run) -> None:
    answer = admin("audit", "verify")
    assert (4, "") == (answer.code, answer.out)
    assert "`audit.read`" in answer.err


@pytest.mark.proves("SEC-15", part="verified by every service, on the command line")
def test_every_service_verifies_its_audit_and_tells_what_was_done_to_it(
    auditor: Run, system: LocalSystem
) -> None:
    assert auditor("facility", "create", "Audited", "--model", "endpoint").code == 0
    assert until(lambda: verified(auditor)["routing"]["verified"] >= 2, 10.0), (
        "one row of ours, one of asking"
    )
    found = verified(auditor)
    assert set(PROCESSES) == found.keys()
    assert {None} == {each["fault"] for each in found.values()}
    assert found["access"]["anchors"] >= 1
    assert found["access"]["anchored_at"] is not None

    execute(system, "routing", "alter table audit_rows disable trigger user")
    execute(system, "routing", "update audit_rows set actor = 'bob' || actor where number = 1")
    changed = auditor("audit", "verify", "--json")
    execute(system, "routing", "update audit_rows set actor = substr(actor, 4) where number = 1")
    execute(system, "routing", "alter table audit_rows enable trigger user")

    assert changed.code == 8
    assert "audit row 1 of `routing` is not as it was sealed" in changed.err
    faults = {each["service"]: each["fault_number"] for each in changed.json}
    assert {**dict.fromkeys(PROCESSES), "routing": 1} == faults
    assert auditor("audit", "verify").code == 0


def verified(auditor: Run) -> dict[str, Any]:
    """What each service finds."""
    answer = auditor("audit", "verify", "--json")
    assert answer.code == 0, answer.err
    return {each["service"]: each for each in answer.json}
