"""The command line: global options, login, every command, and one table from errors to exit codes."""

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from kernel.errors import ReadroomError, code_of
from kernel.release import VERSION
from readroom.errors import EXIT_CODES, INTERRUPTED, UNEXPECTED
from readroom.place import place
from readroom.show import harmless

AREAS = {
    "oneself": ("login", "logout", "whoami"),
    "facilities": ("facility", "rule"),
    "gateways": ("gateway", "refusals"),
    "held": ("held", "distribute"),
    "users": ("user", "privilege"),
    "identities": ("invite", "identity"),
    "folders": ("folder", "grant"),
    "deletion": ("case", "deletions"),
    "filters": ("filter",),
    "explain": ("explain",),
    "patients": ("patient",),
    "reading": ("reading", "read-type"),
    "sharing": ("share",),
    "deliveries": ("deliveries", "resend"),
    "received": ("mail", "texts"),
    "deadletters": ("dead-letters",),
    "audit": ("audit",),
    "volumes": ("volume",),
    "status": ("status",),
    "applying": ("apply", "export"),
    "manifests": ("secrets",),
}
"""The commands of each module. A module is loaded when one of its commands is run."""

HELP = {
    "login": "Log in as LOGIN with the development issuer.",
    "logout": "End the session of this terminal.",
    "whoami": "Show who you are, until when, and what you may do.",
    "completion": "Print what makes the Tab key complete commands.",
    "facility": "Sites, and how they receive studies.",
    "rule": "Endpoint rules: a hub and a text, and the facility that receives what matches.",
    "gateway": "Our software at the sites.",
    "refusals": "List refused associations, announcements and instances, newest first.",
    "held": "What waits for a person, and what to do about it.",
    "distribute": "The same as `held distribute`.",
    "user": "Accounts, their roles and permissions.",
    "privilege": "What a user may do at a facility.",
    "invite": "Print the code by which LOGIN signs in first.",
    "identity": "Which identity of which issuer signs in as whom.",
    "folder": "Shared folders: cases shown to members.",
    "grant": "Single cases shown to single users.",
    "case": "Studies at their facilities, as you may see them.",
    "filter": "Filters: which cases a user sees of those that their privileges show.",
    "explain": "Explain why USER sees a case, or does not.",
    "patient": "Patients: which patient records are one person.",
    "reading": "What is written about a case, and who is about to write.",
    "read-type": "Which kinds of report are active at a facility.",
    "share": "Studies shown to others for a limited time, with the patient's consent.",
    "deliveries": "List mails and how far they have come, newest first.",
    "resend": "Try a mail again that was given up, or of which nobody knows whether it was taken.",
    "deletions": "List deletions and who has not confirmed them yet, newest first.",
    "mail": "Show the mails that the mail server of this machine has received, oldest first.",
    "texts": "Show the text messages that the text gateway of this machine has received.",
    "dead-letters": "Facts that a service could not apply.",
    "audit": "What the services wrote down about who did what.",
    "volume": "The disks that hold the images.",
    "status": "Show how every process is: whether it is ready, what waits, which certificates end soon.",
    "apply": "Make facilities, rules, users, privileges and titles of gateways as a file wants them.",
    "export": "Write what `apply` makes, as it is now, into a file that it takes.",
    "secrets": "The secrets of an installation in Kubernetes, as the Helm chart expects them.",
}
"""What `--help` says of each command, in the order of the list: the first sentence of the command itself."""

_COMPLETE = "_READROOM_COMPLETE"
"""The variable in which a shell asks how a line may go on."""

_ALSO = {"me": "whoami"}
"""Other words for commands, which the list leaves out."""

_MODULES = {word: module for module, words in AREAS.items() for word in words}


class Commands(click.Group):
    """Every command, loaded when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(HELP)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        cmd_name = _ALSO.get(cmd_name, cmd_name)
        if cmd_name in _MODULES:
            area = importlib.import_module(f"readroom.{_MODULES[cmd_name]}")
            commands: Sequence[click.Command] = area.COMMANDS
            return next(command for command in commands if command.name == cmd_name)
        return super().get_command(ctx, cmd_name)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """What may follow; the table suffices, so that the Tab key answers at once."""
        found = [CompletionItem(word, help=HELP[word]) for word in HELP if word.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(HELP.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    envvar="READROOM_DATA",
    show_envvar=True,
    help="Data directory of the running system.  [default: data in this folder, else in the checkout]",
)
@click.option(
    "--session",
    "session_file",
    type=click.Path(path_type=Path),
    envvar="READROOM_SESSION",
    show_envvar=True,
    help="Session file.  [default: one of this terminal, in the data directory]",
)
@click.version_option(VERSION, prog_name="readroom", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context, data: Path | None, session_file: Path | None) -> None:
    """Readroom: studies of many hospitals for exactly the people who may see them.

    Begin with `readroom login LOGIN`. Names do where ids are asked for; every command takes --json.
    Exit codes: 0 done, 2 invalid, 3 not found, 4 denied, 5 not logged in, 6 conflict or expired,
    7 unavailable or exhausted, 8 incomplete.
    """
    context.obj = place(data, session_file)


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes the Tab key complete commands.

    \b
    bash: readroom completion bash >> ~/.bashrc
    zsh:  readroom completion zsh >> ~/.zshrc
    fish: readroom completion fish > ~/.config/fish/completions/readroom.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None, "click knows every shell of the choice"
    click.echo(kind(cli, {}, "readroom", _COMPLETE).source())


def run() -> None:
    """The command `readroom`."""
    sys.exit(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command, by default that of the process, and answers its exit code."""
    try:
        code = cli.main(
            arguments, prog_name="readroom", complete_var="_READROOM_COMPLETE", standalone_mode=False
        )
        sys.stdout.flush()
        return int(code or 0)
    except ReadroomError as error:
        named = not error.field or f"`{error.field}`" in error.sentence
        return _fail(
            error.sentence if named else f"`{error.field}`: {error.sentence}", code_of(error, EXIT_CODES)
        )
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does: there is nobody to tell, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNEXPECTED
    except OSError as error:
        return _fail(f"`{error.filename}`: {error.strerror}" if error.filename else str(error), UNEXPECTED)
    except Exception as error:
        if "READROOM_TRACEBACK" in os.environ:
            raise
        return _fail(f"unexpected failure: {error}", UNEXPECTED)


def _fail(sentence: str, code: int) -> int:
    click.echo(f"readroom: {harmless(sentence)}", err=True)
    return code
