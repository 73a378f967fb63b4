"""Commands on the secrets of an installation in Kubernetes. They need no running system."""

from datetime import UTC, datetime
from pathlib import Path

import click

from readroom.installation import SERVERS, Wanted, make, renew
from readroom.show import harmless

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group("secrets")
def secrets() -> None:
    """The secrets of an installation in Kubernetes, as the Helm chart expects them."""


@secrets.command("make")
@click.option(
    "--to", "folder", type=_FOLDER, required=True, help="The folder to write to; it must be new or empty."
)
@click.option(
    "--release",
    default="readroom",
    show_default=True,
    help="The name of the release, as you give it to Helm.",
)
@click.option(
    "--namespace", default="readroom", show_default=True, help="The namespace, as you give it to Helm."
)
@click.option("--database", required=True, metavar="HOST:PORT", help="Where PostgreSQL answers.")
@click.option("--nats", required=True, metavar="HOST:PORT", help="Where NATS answers.")
@click.option("--cache", required=True, metavar="HOST:PORT", help="Where Valkey answers.")
@click.option(
    "--servers-ca",
    type=_FILE,
    required=True,
    help="PEM file of the authority that signed the certificates of these three.",
)
@click.option(
    "--text-token-file",
    type=_FILE,
    required=True,
    help="File with the token that the operator of the text gateway gave you.",
)
@click.option(
    "--smtp-password-file",
    type=_FILE,
    help="File with the password for the mail server; none if it asks for none.",
)
@click.option(
    "--gateway-name",
    multiple=True,
    metavar="NAME",
    help="A DNS name by which gateways reach ingest; repeat it for more.",
)
@click.option("--cert-manager", is_flag=True, help="Write no certificates, because cert-manager issues them.")
def make_secrets(
    folder: Path,
    release: str,
    namespace: str,
    database: str,
    nats: str,
    cache: str,
    servers_ca: Path,
    text_token_file: Path,
    smtp_password_file: Path | None,
    gateway_name: tuple[str, ...],
    cert_manager: bool,
) -> None:
    """Write each Secret of a new installation, and what the servers must know of them.

    Passwords and keys are chosen here and printed nowhere. Keep the folder where you keep secrets: the audit
    keys and the link secret never change.
    """
    wanted = Wanted(
        release=release,
        namespace=namespace,
        database=database,
        nats=nats,
        cache=cache,
        servers_ca=servers_ca.read_bytes(),
        text_token=text_token_file.read_bytes(),
        smtp_password=smtp_password_file.read_bytes() if smtp_password_file else None,
        gateway_names=gateway_name,
        certificates=not cert_manager,
    )
    _tell(make(wanted, folder, datetime.now(UTC)), folder)
    click.echo(harmless(f"`{folder / SERVERS}` holds what PostgreSQL, NATS and Valkey must be told"))


@secrets.command("renew")
@click.argument("folder", type=_FOLDER)
def renew_certificates(folder: Path) -> None:
    """Write new certificates of the services into FOLDER, signed by the same authority.

    They last 398 days.
    """
    _tell(renew(folder, datetime.now(UTC)), folder)


def _tell(names: list[str], folder: Path) -> None:
    for name in names:
        click.echo(name)
    click.echo(harmless(f"{len(names)} Secrets written: kubectl apply -f {folder}"))


COMMANDS = (secrets,)
