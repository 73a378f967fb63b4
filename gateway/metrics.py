"""What Prometheus may ask a gateway: the disk, and the queue. No patient data."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from gateway.disk import Disk
from gateway.queue import State
from gateway.store import Store
from kernel.errors import Unavailable


class GatewayCollector(Collector):
    """Reads disk and queue when it is asked."""

    def __init__(self, disk: Disk, store: Store) -> None:
        self._disk = disk
        self._store = store

    def collect(self) -> Iterator[GaugeMetricFamily]:
        disk = self._disk
        for name, words, value in (
            (
                "readroom_gateway_disk_free_bytes",
                "What receiving may still fill on the disk of the spool",
                disk.free_bytes,
            ),
            ("readroom_gateway_disk_total_bytes", "The size of that disk", disk.total_bytes),
            (
                "readroom_gateway_reserve_bytes",
                "What is left of the reserve in which forwarding goes on",
                disk.held_bytes,
            ),
            (
                "readroom_gateway_disk_full",
                "Alert above 0: modalities are answered A700",
                int(not disk.has_room),
            ),
        ):
            yield GaugeMetricFamily(name, words, value)
        transfers = GaugeMetricFamily("readroom_gateway_transfers", "Transfers by state", labels=["state"])
        counts = self._store.count()
        for state in State:
            transfers.add_metric([state], counts.get(state, 0))
        yield transfers


@contextmanager
def served(listen: str, disk: Disk, store: Store) -> Iterator[None]:
    """Serve `/metrics` on a loopback address; raises Unavailable if that cannot be had."""
    registry = CollectorRegistry()
    registry.register(GatewayCollector(disk, store))
    host, _, port = listen.rpartition(":")
    try:
        server, thread = start_http_server(int(port), host.strip("[]"), registry)
    except OSError as error:
        raise Unavailable(f"cannot listen on `{listen}`: {error.strerror}") from None
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
