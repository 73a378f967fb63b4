"""The commands on who signs in, and on oneself, against a running system."""

import os
import subprocess
import sys

from local.system import MIGRATE, ROOT, LocalSystem
from tests.readroom.conftest import Run


def test_a_user_is_invited_and_an_identity_added_listed_and_removed(admin: Run) -> None:
    assert admin("user", "create", "iris", "--name", "Iris", "--role", "radiologist").code == 0
    invited = admin("invite", "IRIS", "--json")
    assert (0, "iris", 64) == (invited.code, invited.json["login"], len(invited.json["code"]))

    bound = admin("identity", "add", "iris", "https://login.example.org", "i-1", "--json").json
    listed = admin("identity", "list", "iris", "--json").json
    removed = admin("identity", "remove", "iris", "https://login.example.org", "i-1")

    assert ("i-1", "admin") == (bound["subject"], bound["bound_by"])
    assert [bound] == listed
    assert "`i-1` of `https://login.example.org` no longer signs in as `iris`" in removed.out
    assert admin("identity", "remove", "iris", "https://login.example.org", "i-1").code == 3
    assert admin("login", "iris").code == 0
    assert admin("invite", "admin").code == 4


def test_everybody_is_told_who_they_are(admin: Run) -> None:
    me = admin("me", "--json").json
    assert ("admin", "administrator", "group") == (me["login"], me["role"], me["side"])
    assert "access.admin" in me["permissions"]


def test_a_code_is_printed_beside_the_database_and_nothing_else(admin: Run, system: LocalSystem) -> None:
    """Where nobody can sign in yet, or nobody can any more."""

    def invite(login: str, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "services", "invite", login]
        return subprocess.run(
            command, env=os.environ | environment, cwd=ROOT, capture_output=True, text=True, check=False
        )

    told = system.environment(MIGRATE)
    invited, unknown, lost = invite("admin", told), invite("nobody", told), invite("admin", {})

    assert (0, 64, "") == (invited.returncode, len(invited.stdout.strip()), invited.stderr)
    assert (1, "", "there is no user `nobody`\n") == (unknown.returncode, unknown.stdout, unknown.stderr)
    assert (1, "`invite` needs `READROOM_ACCESS_DATABASE_URL`: run it where access runs\n") == (
        lost.returncode,
        lost.stderr,
    )
    logs = "".join(path.read_text() for path in system.data_dir.rglob("*.log"))
    assert logs
    assert invited.stdout.strip() not in logs
