"""Settings: read once, frozen, secrets from files, a bad value names its key and is not repeated."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import PositiveInt, ValidationError

from kernel.errors import Invalid
from plumbing.config import Address, CacheUrl, ServiceSettings, load
from tests.auditing import audit_settings


class Settings(ServiceSettings):
    prefix = "READROOM_TEST_"

    access_address: Address = "127.0.0.1:7001"
    cache_url: CacheUrl
    pages: PositiveInt = 3


Environ = dict[str, str]


@pytest.fixture
def environ(tmp_path: Path) -> Callable[..., Environ]:
    """What a service is told, with some of it changed; None takes a key out."""
    (tmp_path / "file").write_text("content")
    file = str(tmp_path / "file")

    def make(**changed: str | None) -> Environ:
        told: dict[str, str | None] = {
            "LISTEN": "127.0.0.1:0",
            "HTTP_LISTEN": "[::1]:9001",
            "DATABASE_URL": "postgresql://role:hush@/readroom_test?host=/run/pg",
            "NATS_URL": "nats://user:hush@127.0.0.1:4222",
            "CACHE_URL": "redis://:hush@localhost:6379/0",
            **dict.fromkeys(("TLS_CERTIFICATE", "TLS_KEY", "TLS_CA", "TOKEN_PUBLIC_KEY"), file),
            **audit_settings(tmp_path),
            **changed,
        }
        return {f"READROOM_TEST_{key}": value for key, value in told.items() if value is not None}

    return make


def problem(told: Environ) -> str:
    with pytest.raises(Invalid) as refusal:
        load(Settings, told)
    assert "hush" not in refusal.value.sentence
    return refusal.value.sentence


def test_settings_are_what_the_environment_says(environ: Callable[..., Environ], tmp_path: Path) -> None:
    settings = load(Settings, {**environ(PAGES="7"), "HOME": "/root"})
    assert settings.listen == "127.0.0.1:0"
    assert settings.pages == 7
    assert settings.tls.key == tmp_path / "file"
    assert settings.nats_url.get_secret_value() == "nats://user:hush@127.0.0.1:4222"


def test_only_the_environment_that_is_given_counts(
    environ: Callable[..., Environ], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("READROOM_TEST_PAGES", "9")
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("READROOM_TEST_PAGES=9\n")
    assert load(Settings, environ()).pages == 3


def test_settings_are_frozen_and_print_no_secret(environ: Callable[..., Environ]) -> None:
    settings = load(Settings, environ())
    with pytest.raises(ValidationError, match="frozen"):
        settings.listen = "0.0.0.0:1"
    assert "hush" not in f"{settings!r} {settings} {settings.model_dump_json()}"


@pytest.mark.parametrize(
    ("key", "value", "cause"),
    [
        ("LISTEN", None, "is not set"),
        ("LISTEN", "7001", "expected HOST:PORT"),
        ("LISTEN", ":7001", "expected HOST:PORT"),
        ("LISTEN", "host:70000", "expected HOST:PORT"),
        ("LISTEN", "host:٣", "expected HOST:PORT"),
        ("DATABASE_URL", "mysql://hush", "expected a URL that starts with postgresql://"),
        ("NATS_URL", "hush", "expected a URL that starts with nats://"),
        ("CACHE_URL", "", "expected a URL that starts with redis://"),
        ("TLS_KEY", "/nowhere", "path does not point to a file"),
        ("PAGES", "0", "greater than 0"),
        ("PAGES", "hush", "integer"),
    ],
)
def test_a_bad_value_names_its_key(
    environ: Callable[..., Environ], key: str, value: str | None, cause: str
) -> None:
    sentence = problem(environ(**{key: value}))
    assert sentence.startswith(f"`READROOM_TEST_{key}` is not ")
    assert cause in sentence


def test_all_bad_values_are_named_at_once(environ: Callable[..., Environ]) -> None:
    sentence = problem(environ(LISTEN="x", PAGES="x"))
    assert "`READROOM_TEST_LISTEN`" in sentence
    assert "`READROOM_TEST_PAGES`" in sentence


def test_a_secret_may_stand_in_a_file(environ: Callable[..., Environ], tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("nats://from:file@127.0.0.1:4222\n")
    settings = load(Settings, environ(NATS_URL=None, NATS_URL_FILE=str(secret)))
    assert settings.nats_url.get_secret_value() == "nats://from:file@127.0.0.1:4222"


def test_a_secret_stands_in_one_place(environ: Callable[..., Environ], tmp_path: Path) -> None:
    sentence = problem(environ(NATS_URL_FILE=str(tmp_path / "file")))
    assert sentence == (
        "`READROOM_TEST_NATS_URL` and `READROOM_TEST_NATS_URL_FILE` are both set: expected one of them"
    )


def test_a_file_that_cannot_be_read_is_named_by_its_key(
    environ: Callable[..., Environ], tmp_path: Path
) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for file in ("/nowhere", str(tmp_path), str(tmp_path / "binary")):
        sentence = problem(environ(NATS_URL=None, NATS_URL_FILE=file))
        assert sentence == "`READROOM_TEST_NATS_URL_FILE` names a file that cannot be read"


def test_only_secrets_are_read_from_files(environ: Callable[..., Environ], tmp_path: Path) -> None:
    assert "`READROOM_TEST_LISTEN` is not set" in problem(
        environ(LISTEN=None, LISTEN_FILE=str(tmp_path / "file"))
    )


def test_time_may_be_moved_where_every_server_is_on_this_machine(environ: Callable[..., Environ]) -> None:
    for changed in (
        {},
        {"DATABASE_URL": "postgresql://role:hush@127.0.0.1:5432/db"},
        {"DATABASE_URL": "postgresql://role:hush@[::1]:5432,127.0.0.1/db"},
        {"CACHE_URL": "unix:///run/valkey.sock"},
        {"NATS_URL": "nats://user:hush@[::1]:4222"},
    ):
        settings = load(Settings, environ(CLOCK_OFFSET_FILE="/tmp/offset", **changed))
        assert settings.clock_offset_file == Path("/tmp/offset")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("DATABASE_URL", "postgresql://role:hush@db.example/readroom"),
        ("DATABASE_URL", "postgresql://role:hush@127.0.0.1,db.example/readroom"),
        ("DATABASE_URL", "postgresql://role:hush@/readroom?host=db.example"),
        ("DATABASE_URL", "postgresql://role:hush@127.0.0.1/readroom?host=db.example"),
        ("DATABASE_URL", "postgresql://role:hush@/readroom?host=/run/pg,db.example"),
        ("DATABASE_URL", "postgresql:///readroom"),
        ("NATS_URL", "tls://user:hush@nats:4222"),
        ("NATS_URL", "tls://127.0.0.1:4222@nats:4222"),
        ("CACHE_URL", "rediss://10.0.0.7:6379"),
        ("LISTEN", "0.0.0.0:7001"),
        ("HTTP_LISTEN", "[::]:9001"),
        ("ACCESS_ADDRESS", "access:7001"),
    ],
)
def test_time_is_never_moved_where_a_server_may_be_elsewhere(
    environ: Callable[..., Environ], key: str, value: str
) -> None:
    told = environ(CLOCK_OFFSET_FILE="/tmp/offset", **{key: value})
    sentence = problem({**told, "READROOM_TEST_SERVERS_CA": told["READROOM_TEST_TLS_CA"]})
    assert sentence == f"`READROOM_TEST_{key}` is not a loopback address: a clock offset is refused"


ELSEWHERE = [
    ("DATABASE_URL", "postgresql://role:hush@db.example/readroom"),
    ("DATABASE_URL", "postgresql://role:hush@127.0.0.1,db.example/readroom"),
    ("DATABASE_URL", "postgresql://role:hush@/readroom?host=/run/pg,db.example"),
    ("DATABASE_URL", "postgresql:///readroom"),
    ("NATS_URL", "tls://user:hush@nats.example:4222"),
    ("CACHE_URL", "rediss://:hush@10.0.0.7:6379"),
    ("OTLP_ENDPOINT", "https://collector.example:4317"),
]


@pytest.mark.proves("SEC-1", part="servers on other machines")
@pytest.mark.parametrize(("key", "value"), ELSEWHERE)
def test_a_server_elsewhere_needs_an_authority_that_it_can_be_verified_with(
    environ: Callable[..., Environ], key: str, value: str
) -> None:
    assert problem(environ(**{key: value})) == (
        f"`READROOM_TEST_{key}` names a server that must be verified: "
        "set `READROOM_TEST_SERVERS_CA` to the file with the authority of its certificate"
    )
    told = environ(**{key: value})
    load(Settings, {**told, "READROOM_TEST_SERVERS_CA": told["READROOM_TEST_TLS_CA"]})


@pytest.mark.proves("SEC-1", part="servers on other machines")
@pytest.mark.parametrize(
    ("key", "value", "cause"),
    [
        ("NATS_URL", "nats://user:hush@nats.example:4222", "starts with tls://"),
        ("NATS_URL", "nats://user:hush@10.0.0.7", "starts with tls://"),
        ("NATS_URL", "ws://user:hush@127.0.0.1", "starts with nats:// or tls://"),
        ("CACHE_URL", "redis://:hush@cache.example", "starts with rediss://"),
        ("CACHE_URL", "rediss://:hush@cache.example?ssl_cert_reqs=none", "`ssl_cert_reqs`"),
        ("CACHE_URL", "rediss://:hush@cache.example?ssl_check_hostname=false", "`ssl_check_hostname`"),
        ("CACHE_URL", "rediss://:hush@cache.example?ssl_ca_certs=/tmp/mine", "`ssl_ca_certs`"),
        ("OTLP_ENDPOINT", "http://collector.example:4317", "starts with https://"),
        ("OTLP_ENDPOINT", "collector.example:4317", "starts with http:// or https://"),
        *(
            (
                "DATABASE_URL",
                f"postgresql://role:hush@db.example/readroom?{query}",
                f"`{query.split('=')[0]}`",
            )
            for query in (
                "sslmode=disable",
                "sslmode=allow",
                "sslmode=prefer",
                "sslmode=require",
                "sslmode=verify-ca",
                "sslmode=verify-full&sslmode=disable",
                "sslmode=",
                "sslrootcert=/tmp/mine",
                "ssl_min_protocol_version=TLSv1",
                "service=another",
                "hostaddr=10.0.0.1",
            )
        ),
        ("DATABASE_URL", "postgresql://role:hush@127.0.0.1/readroom?service=another", "`service`"),
    ],
)
def test_no_address_goes_without_tls_or_weakens_it(
    environ: Callable[..., Environ], key: str, value: str, cause: str
) -> None:
    told = environ(**{key: value})
    sentence = problem({**told, "READROOM_TEST_SERVERS_CA": told["READROOM_TEST_TLS_CA"]})
    assert sentence.startswith(f"`READROOM_TEST_{key}` is not valid: ")
    assert cause in sentence
