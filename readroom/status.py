"""How the system is: what the probes and the metrics of its processes say. It needs no login."""

import json
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import click

from kernel.errors import Invalid, Unavailable
from readroom.endpoints import Endpoints
from readroom.errors import Incomplete
from readroom.place import Place
from readroom.show import Column, Output, harmless

PROBES = "READROOM_PROBES"
"""Where the processes are, `NAME=HOST:PORT` with commas between; the Helm chart tells it to the web."""

ENDS_SOON = timedelta(days=14)
LITTLE_ROOM = 0.1
_ANSWER_S = 5.0
_MAX_BYTES = 4 << 20
_SAMPLE = re.compile(r"^(readroom_[a-z_]+)(?:\{(.*)\})? ([-+0-9.eE]+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Samples = Mapping[str, Sequence[tuple[Mapping[str, str], float]]]
"""Values by the name of their metric, each with its labels."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A metric that should be as it is on a good day.

    Attributes:
        good: whether a value is as it should be.
        sentence: what is so where it is not.
    """

    metric: str
    good: Callable[[float], bool]
    sentence: str


def _none(value: float) -> bool:
    return value == 0


def _one(value: float) -> bool:
    return value == 1


WATCHED = (
    Watched("readroom_audit_broken", _none, "sealed audit rows have changed: `readroom audit verify`"),
    Watched("readroom_bus_up", _one, "NATS is away: facts wait"),
    Watched("readroom_bus_syncs_late", _none, "NATS acknowledges before it syncs: facts wait"),
    Watched("readroom_bus_differences", _none, "stream or consumer are not as `migrate` makes them: run it"),
    Watched("readroom_cache_up", _one, "Valkey is away: each process counts rates alone"),
    Watched("readroom_outbox_waits_s", lambda s: s <= 60, "a fact has waited longer than a minute for NATS"),
    Watched("readroom_dead_letters", _none, "facts could not be applied: `readroom dead-letters list`"),
    Watched("readroom_token_keys_unreadable", _none, "the file of token keys is not whole"),
    Watched("readroom_files_unreadable", _none, "a file of certificates or a password is not whole"),
    Watched(
        "readroom_ingest_unheld_volumes", _none, "a volume of images has no holder: `readroom volume list`"
    ),
    Watched("readroom_ingest_deletions_overdue", _none, "a service has not confirmed a deletion"),
    Watched("readroom_ingest_workers_still", _none, "a process that receives images stands still"),
    Watched(
        "readroom_access_broken_filters", _none, "filters of users no longer parse: these users see nothing"
    ),
)
"""In the order of how bad it is."""

BACKLOG = {
    "readroom_outbox_facts": "facts to say",
    "readroom_routing_held": "studies that wait for a person",
    "readroom_ingest_parts_undescribed": "parts to describe again",
    "readroom_sharing_untold": "shares to tell access",
}
"""What may wait, by its metric."""


@dataclass(frozen=True, slots=True)
class Process:
    """What one process says of itself.

    Attributes:
        wrong: parts that do not work, or why it does not answer; empty: it is ready.
        attention: what somebody should look at.
    """

    component: str
    address: str
    wrong: Sequence[str] = ()
    version: str | None = None
    waiting: Sequence[str] = ()
    disk_free: str | None = None
    certificate_ends: datetime | None = None
    attention: Sequence[str] = field(default_factory=tuple)


PROCESS = (
    Column[Process]("component", lambda p: p.component),
    Column[Process]("address", lambda p: p.address),
    Column[Process]("state", lambda p: f"not ready: {', '.join(p.wrong)}" if p.wrong else "ready"),
    Column[Process]("version", lambda p: p.version),
    Column[Process]("waiting", lambda p: list(p.waiting)),
    Column[Process]("disk_free", lambda p: p.disk_free),
    Column[Process]("certificate_ends", lambda p: p.certificate_ends),
    Column[Process]("attention", lambda p: list(p.attention), json_only=True),
)


def read(text: str) -> Samples:
    """What a process shows at `/metrics`; lines that cannot be read count for nothing."""
    found: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for name, labels, value in _SAMPLE.findall(text):
        try:
            found.setdefault(name, []).append((dict(_LABEL.findall(labels)), float(value)))
        except ValueError:
            continue
    return found


def judged(
    component: str, address: str, parts: Mapping[str, object], samples: Samples, now: datetime
) -> Process:
    """What the answers of a process mean."""
    ends = min((value for _, value in samples.get("readroom_certificate_ends", ())), default=None)
    ends_at = None if ends is None else datetime.fromtimestamp(ends, UTC)
    free, total = (
        next((value for _, value in samples.get(f"readroom_ingest_disk_{each}_bytes", ())), None)
        for each in ("free", "total")
    )
    attention = [each.sentence for each in WATCHED if not all(map(each.good, _values(samples, each.metric)))]
    if ends_at is not None and ends_at - now < ENDS_SOON:
        attention.append(f"a certificate ends on {ends_at:%Y-%m-%d}: put a new one in its place")
    if free is not None and total and free / total < LITTLE_ROOM:
        attention.append("the disk of the images has less than a tenth free")
    return Process(
        component,
        address,
        [name for name, works in parts.items() if works is False],
        next((labels.get("version") for labels, _ in samples.get("readroom_release", ())), None),
        [
            f"{count:.0f} {words}"
            for metric, words in BACKLOG.items()
            if (count := sum(_values(samples, metric)))
        ],
        None if free is None else f"{free / 1e9:,.1f} GB",
        ends_at,
        attention,
    )


def _values(samples: Samples, metric: str) -> list[float]:
    return [value for _, value in samples.get(metric, ())]


def ask(component: str, address: str, now: datetime) -> Process:
    """Asks one process; whatever it answers is a state of it."""
    try:
        parts = json.loads(_get(address, "/readyz"))
        samples = read(_get(address, "/metrics"))
    except (OSError, ValueError):
        return Process(component, address, ["it does not answer"])
    if not isinstance(parts, dict):
        return Process(component, address, ["it answers what nobody understands"])
    return judged(component, address, parts, samples, now)


def _get(address: str, path: str) -> str:
    # Plain HTTP on an inner network, and never through a proxy that the environment names.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}{path}", timeout=_ANSWER_S) as answer:
            content: bytes = answer.read(_MAX_BYTES)
    except urllib.error.HTTPError as error:
        content = error.read(_MAX_BYTES)
    return content.decode(errors="replace")


def processes(told: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Each process by the name of its component: a name may stand for several addresses."""
    for component, address in told.items():
        host, _, port = address.rpartition(":")
        try:
            found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        except OSError:
            yield component, address
            continue
        for ip in sorted({str(each[4][0]) for each in found}):
            yield component, f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def addresses(text: str) -> dict[str, str]:
    """`NAME=HOST:PORT` with commas between; raises Invalid."""
    found: dict[str, str] = {}
    for each in filter(None, (part.strip() for part in text.split(","))):
        name, _, address = each.partition("=")
        host, _, port = address.rpartition(":")
        if not (name and host and port.isascii() and port.isdigit() and int(port) <= 65535):
            raise Invalid(f"`{each}` is no process: write NAME=HOST:PORT")
        found[name] = address
    return found


@click.command("status")
@click.option(
    "--at",
    metavar="NAME=HOST:PORT,…",
    envvar=PROBES,
    show_envvar=True,
    help="Where the probes of the processes are.  [default: as the data directory says]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def status(place: Place, at: str | None, as_json: bool) -> None:
    """Show how every process is: whether it is ready, what waits, which certificates end soon.

    Needs no login. Exit codes: 0 all is well, 7 a process is not ready, 8 somebody should look.
    """
    told = addresses(at) if at else Endpoints.read(place.data).http
    asked = list(processes(told))
    with ThreadPoolExecutor(max_workers=min(32, max(1, len(asked)))) as pool:
        found = list(pool.map(lambda one: ask(one[0], one[1], datetime.now(UTC)), asked))
    Output(as_json).items(PROCESS, found)
    if not as_json:
        for each in found:
            for sentence in each.attention:
                click.echo(f"{harmless(each.component)}: {sentence}")
    if not_ready := sorted({each.component for each in found if each.wrong}):
        raise Unavailable(f"not ready: {', '.join(not_ready)}; look at the log of each")
    if look := sorted({each.component for each in found if each.attention}):
        raise Incomplete(f"somebody should look at {', '.join(look)}")


COMMANDS = (status,)
