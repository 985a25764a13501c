"""`GET /metrics` in Prometheus' format: requests, and what Redis knows of queues and workers at the moment."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Flask, request
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from prometheus_flask_exporter import PrometheusMetrics
from redis.exceptions import RedisError

from api.services import Services
from jobs import reports

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class QueueCollector(Collector):
    """Reads Redis at every scrape; says nothing of queues while Redis is away."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def describe(self) -> Iterator[GaugeMetricFamily]:
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        up = GaugeMetricFamily("npu_proxy_redis_up", "Whether Redis answers.")
        waiting = GaugeMetricFamily("npu_proxy_jobs_waiting", "Jobs in the queue.", labels=["engine"])
        running = GaugeMetricFamily("npu_proxy_jobs_running", "Jobs on a device.", labels=["engine", "device"])
        slots = GaugeMetricFamily("npu_proxy_slots", "Jobs a device takes at once.", labels=["engine", "device"])
        try:
            for kind in self._services.config.models:
                waiting.add_metric([kind], self._services.store.depth(kind))
            for report in reports.read_all(self._services.store.redis):
                running.add_metric([report.engine, report.device], report.running)
                slots.add_metric([report.engine, report.device], report.slots)
            up.add_metric([], 1)
        except RedisError:
            up.add_metric([], 0)
        yield from (up, waiting, running, slots)


def limit_labels(app: Flask) -> None:
    """Take invented methods as one, before anything else is looked at: a label's values stay in memory for good."""

    @app.before_request
    def name_method() -> None:
        if request.method not in METHODS:
            request.method = "OTHER"


def register(app: Flask, services: Services) -> None:
    """Count requests by path pattern and status, and serve `/metrics`."""
    registry = CollectorRegistry()
    registry.register(QueueCollector(services))
    PrometheusMetrics(app, registry=registry, group_by="url_rule", default_latency_as_histogram=True)
