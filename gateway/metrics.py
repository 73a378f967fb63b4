"""What Prometheus may ask a gateway. No patient data."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.disk import Disk
from gateway.queue import Outcome, State
from gateway.store import Store
from kernel.clock import Clock

_CLASSES = 50
"""SOP classes of their own label; devices choose them, and a page must stay short."""


class GatewayCollector(Collector):
    """Reads disk, queue and refusals when it is asked."""

    def __init__(self, disk: Disk, store: Store, clock: Clock) -> None:
        self._disk = disk
        self._store = store
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        disk, store = self._disk, self._store
        waits = store.waits()
        oldest_s = (self._clock.now() - waits.oldest_at).total_seconds() if waits.oldest_at else 0.0
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
            (
                "readroom_gateway_oldest_waits_s",
                "For how long the oldest instance has waited for Central server",
                max(0.0, oldest_s),
            ),
        ):
            yield GaugeMetricFamily(name, words, value)
        transfers = GaugeMetricFamily("readroom_gateway_transfers", "Transfers by state", labels=["state"])
        counts = store.count()
        for state in State:
            transfers.add_metric([state], counts.get(state, 0))
        yield transfers
        instances = GaugeMetricFamily(
            "readroom_gateway_instances", "Kept instances by what became of them", labels=["outcome"]
        )
        outcomes = store.outcomes()
        for outcome in Outcome:
            instances.add_metric([outcome], outcomes.get(outcome, 0))
        yield instances
        refusals = CounterMetricFamily(
            "readroom_gateway_refusals",
            "What was refused here, or kept though odd, by kind and cause",
            labels=["kind", "cause"],
        )
        for (kind, cause), times in sorted(store.refusal_totals().items()):
            refusals.add_metric([kind, cause], times)
        yield refusals
        contexts = GaugeMetricFamily(
            "readroom_gateway_contexts_refused",
            "Contexts that were not accepted, by SOP class; the 50 most frequent",
            labels=["sop_class_uid"],
        )
        for uid, times in store.refused_classes(_CLASSES):
            contexts.add_metric([uid], times)
        yield contexts
