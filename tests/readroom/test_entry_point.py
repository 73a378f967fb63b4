"""`readroom` as a command: its version, completion, what it loads, and from which folder it works."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from kernel.release import VERSION
from local.system import ROOT, LocalSystem
from readroom.cli import HELP, cli
from readroom.place import data_folder

SERVERS_ONLY = {
    "aiohttp",
    "asyncpg",
    "joserfc",
    "nats",
    "phonenumbers",
    "pydantic",
    "pydicom",
    "rich.console",
}
"""What a server needs and a command does not: half a second of each call."""


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process of this Python in the checkout."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_it_says_its_version() -> None:
    said = run("from readroom.cli import run; import sys; sys.argv = ['readroom', '--version']; run()")

    assert (said.returncode, said.stdout) == (0, f"readroom {VERSION}\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_tab_key_completes_commands(shell: str) -> None:
    ask = "from readroom.cli import main; import sys; sys.exit(main({}))"
    script = run(ask.format(["completion", shell])).stdout
    asked = {
        "bash": {"COMP_WORDS": "readroom fol", "COMP_CWORD": "1"},
        "zsh": {"COMP_WORDS": "readroom fol", "COMP_CWORD": "1"},
        "fish": {"COMP_WORDS": "readroom fol", "COMP_CWORD": "fol"},
    }[shell]

    answered = run(ask.format([]), _READROOM_COMPLETE=f"{shell}_complete", **asked)

    assert f"_READROOM_COMPLETE={shell}_complete" in script
    assert "folder" in answered.stdout
    assert "facility" not in answered.stdout, answered.stdout


def test_the_list_of_commands_says_of_each_what_it_says_itself() -> None:
    context = click.Context(cli)
    for word in cli.list_commands(context):
        command = cli.get_command(context, word)
        assert command is not None
        assert command.name == word
        assert (command.help or "").split("\n\n")[0].replace("\n", " ").startswith(HELP[word].rstrip(".")), (
            word
        )


def test_a_command_loads_nothing_that_only_servers_need() -> None:
    loaded = run(
        "import sys, readroom.cli, readroom.client, readroom.deletion, wire.access.v1.access_pb2_grpc;"
        "print(*sys.modules)"
    ).stdout.split()
    listed = run("import sys, readroom.cli; print(*sys.modules)").stdout.split()

    assert SERVERS_ONLY.isdisjoint(loaded)
    assert "grpc" in loaded, "a call needs it"
    assert {"grpc", "google.protobuf"}.isdisjoint(listed), "the list of commands needs no contract"


def test_the_data_of_the_checkout_are_found_from_any_folder(tmp_path: Path) -> None:
    here, checkout = tmp_path / "here", tmp_path / "checkout"
    for folder in (here, checkout):
        folder.mkdir()
    assert data_folder(here, checkout) == here / "data", "nowhere yet: where a system would be started"
    (checkout / "data").mkdir()
    assert data_folder(here, checkout) == checkout / "data"
    (here / "data").mkdir()
    assert data_folder(here, checkout) == here / "data"


def test_it_works_from_another_folder(system: LocalSystem, tmp_path: Path) -> None:
    """As the command that `make` installs does: the script of an entry point calls `run`."""
    entry = tmp_path / "readroom"
    entry.write_text(f"#!{sys.executable}\nfrom readroom.cli import run\nrun()\n")
    entry.chmod(0o755)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "READROOM_DATA": str(system.data_dir)}
    session = {"READROOM_SESSION": str(tmp_path / "session.json")}

    def said(*arguments: str) -> str:
        return subprocess.run(
            [entry, *arguments],
            cwd=tmp_path,
            env=environment | session,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout

    assert said("login", "admin") == "logged in as `admin`\n"
    assert "admin" in said("me")
