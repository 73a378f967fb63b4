"""What Readroom is made of, as data: migration, certificates and launcher read here what there is."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Component:
    """One kind of process.

    Attributes:
        name: of its command, of its settings `READROOM_NAME_…` and of its user of the bus.
        identity: the name in its certificate, by which the contracts let it call.
        database: the name of its database and of the role that owns it.
        migrations: the folders of SQL that make the database, in this order, from the root of the repository.
        ports: what it listens on: for each edge, the setting that holds its address.
    """

    name: str
    identity: str
    database: str
    migrations: tuple[str, ...]
    ports: Mapping[str, str]


def _component(name: str, folder: str, identity: str, **ports: str) -> Component:
    return Component(
        name,
        identity=identity,
        database=f"readroom_{name}",
        migrations=("plumbing/migrations", f"{folder}/migrations"),
        ports={"grpc": "listen", "http": "http_listen", **ports},
    )


def _service(name: str, **ports: str) -> Component:
    return _component(name, f"services/{name}", name, **ports)


WEB = _component("web", "web", "bff", pages="pages_listen")
"""The pages. The command line presents the same certificate."""

_SERVICES = (
    _service("ingest", dicom="dicom_listen", dicomweb="dicomweb_listen", gateways="gateway_listen"),
    _service("routing"),
    _service("access"),
    _service("reporting"),
    _service("sharing"),
    _service("notify"),
)

COMPONENTS = {component.name: component for component in (*_SERVICES, WEB)}

SERVICES = tuple(service.name for service in _SERVICES)
"""Those that `python -m services NAME` runs."""

PROCESSES = tuple(COMPONENTS)
"""The services and the web: each has a database, and answers whether it is ready."""
