"""What Prometheus and a watchdog may ask a gateway, in plain text on this machine. No patient data."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.disk import Disk
from gateway.queue import Outcome, State
from gateway.store import Store
from kernel.clock import Clock
from kernel.errors import Unavailable
from plumbing import log

_CLASSES = 50
"""SOP classes of their own label; devices choose them, and a page must stay short."""

Parts = Mapping[str, Callable[[], bool]]
"""What must work, by name."""

_log = log.get()


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


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nobody needs a line for each question."""


def _application(registry: CollectorRegistry, parts: Parts) -> Callable[..., Iterable[bytes]]:
    metrics = make_wsgi_app(registry)

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            told: Iterable[bytes] = metrics(environ, start)
            return told
        if path == "/healthz":
            start("200 OK", [("Content-Type", "text/plain")])
            return [b"ok"]
        if path == "/readyz":
            works = {name: _works(name, part) for name, part in parts.items()}
            status = "200 OK" if all(works.values()) else "503 Service Unavailable"
            start(status, [("Content-Type", "application/json")])
            return [json.dumps(works).encode()]
        start("404 Not Found", [("Content-Type", "text/plain")])
        return [b"ask for /metrics, /healthz or /readyz"]

    return answer


def _works(name: str, part: Callable[[], bool]) -> bool:
    try:
        return part()
    except Exception:
        _log.exception("a part does not answer", reason=name)
        return False


@contextmanager
def served(listen: str, collector: Collector, parts: Parts) -> Iterator[None]:
    """Serve `/metrics`, `/healthz` and `/readyz` at an address; raises Unavailable if it cannot be had."""
    registry = CollectorRegistry()
    registry.register(collector)
    host, _, port = listen.rpartition(":")
    try:
        server = make_server(
            host.strip("[]"), int(port), _application(registry, parts), _Server, handler_class=_Quiet
        )
    except OSError as error:
        raise Unavailable(f"cannot listen on `{listen}`: {error.strerror}") from None
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
