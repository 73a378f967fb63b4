"""Commands that the documentation names exist, with the options that it gives them."""

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from local.system import ROOT
from readroom.cli import cli

PAGES = (
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/**/*.md"),
    *ROOT.glob("*/README.md"),
    *ROOT.glob("services/*/README.md"),
)


def named() -> Iterator[tuple[str, str]]:
    """Each `readroom …` that stands in code, and the page that names it."""
    for page in PAGES:
        text = page.read_text()
        for said in re.findall(
            r"`(readroom [a-z][^`]*)`|^(?:\$ |    )?(readroom [a-z].*)$", text, re.MULTILINE
        ):
            # A line of the walkthrough goes on as one of the shell; a comment ends it.
            yield page.relative_to(ROOT).as_posix(), re.split(r" [|#>]|\n", "".join(said))[0]


@pytest.mark.parametrize(("page", "said"), sorted(set(named())))
def test_a_command_that_a_page_names_exists(page: str, said: str) -> None:
    words = shlex.split(said.replace("\\|", "|"))[1:]
    command: click.Command = cli
    while isinstance(command, click.Group) and words:
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, f"{page} names `{said}`: there is no `{words[0]}`"
        command = found
        words.pop(0)
    known = {
        option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
    }
    for word in words:
        if word.startswith("--"):
            assert word.split("=")[0] in known | {"--help"}, f"{page} names `{said}`: there is no `{word}`"
