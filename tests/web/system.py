"""How a web of a test is set up."""

import secrets
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from local.pki import Pki
from tests.ports import free_port
from web.main import Settings


def settings(database_url: str, pki: Pki, folder: Path, **more: Any) -> Settings:
    """A web on ports of its own. `more` says how people sign in, and where services answer; others do not."""
    port, identity = free_port(), pki.tls("bff")
    services = ("access", "reporting", "ingest", "sharing", "dicomweb")
    chosen: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "http_listen": "127.0.0.1:0",
        "pages_listen": f"127.0.0.1:{port}",
        "origin": f"http://localhost:{port}",
        "viewer_origin": f"http://viewer.localhost:{port}",
        "database_url": SecretStr(database_url),
        "tls_certificate": identity.certificate,
        "tls_key": identity.key,
        "tls_ca": identity.ca,
        "token_key": pki.token_key,
        "token_keys": pki.token_keys,
        "audit_key": SecretStr(secrets.token_hex(32)),
        "audit_anchor_file": folder / "web.anchor",
        **{f"{name}_address": f"127.0.0.1:{free_port()}" for name in services},
        **more,
    }
    return Settings(**chosen)
