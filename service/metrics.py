"""What Prometheus asks for. Numbers about jobs are read from the rows at each scrape, so that every web server says the same."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from service.database import Database
from service.jobs import ACTIVE, Status
from service.tables import Delivery, Job

_DURATIONS_S = (1, 5, 15, 60, 300, 900, 3600, 14_400, 86_400)


class Metrics:
    """The metrics of one web process: its requests, and the jobs of all."""

    def __init__(self, database: Database) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Jobs(database))
        labels = ("operation", "method", "status")
        self._requests = Counter("secateur_http_requests", "Requests answered", labels, registry=self._registry)
        self._latency = Histogram(
            "secateur_http_request_duration_seconds", "Until the answer began", ("operation",), registry=self._registry
        )

    def answered(self, operation: str, method: str, status: int, duration_s: float) -> None:
        """Count a request."""
        self._requests.labels(operation, method, str(status)).inc()
        self._latency.labels(operation).observe(duration_s)

    def text(self) -> bytes:
        """The exposition format of Prometheus."""
        return generate_latest(self._registry)


class _Jobs(Collector):
    def __init__(self, database: Database) -> None:
        self._database = database

    def describe(self) -> Iterator[Metric]:
        """Nothing is asked of the database before the first scrape."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """One read transaction a scrape."""
        now = self._database.clock()
        with self._database.reading() as session:
            count = sa.func.count()
            by_status = dict(session.execute(sa.select(Job.status, count).group_by(Job.status)).tuples().all())
            oldest = session.scalar(sa.select(sa.func.min(Job.created_at)).where(Job.status == Status.QUEUED)) or now
            expired = session.scalar(sa.select(count).where(Job.status.in_(ACTIVE), Job.lease_until < now)) or 0
            attempts = session.scalar(sa.select(sa.func.sum(Job.attempt))) or 0
            deaths = session.scalar(sa.select(sa.func.sum(Job.deaths))) or 0
            waiting = session.scalar(sa.select(count).select_from(Delivery).where(Delivery.next_at.is_not(None))) or 0
            duration = Job.finished_at - Job.started_at
            buckets = [sa.func.count(sa.case((duration <= limit, 1))) for limit in _DURATIONS_S]
            ended = sa.select(count, sa.func.coalesce(sa.func.sum(duration), 0.0), *buckets).where(
                duration.is_not(None)
            )
            row = session.execute(ended).one()
        states = GaugeMetricFamily("secateur_jobs", "Jobs by status", labels=["status"])
        for status in Status:
            states.add_metric([str(status)], by_status.get(status, 0))
        yield states
        gauges: tuple[tuple[str, str, float], ...] = (
            ("queue_depth", "Jobs that wait for a worker", by_status.get(Status.QUEUED, 0)),
            ("oldest_queued_age_seconds", "How long the first of them has waited", now - oldest),
            ("expired_leases", "Running jobs whose worker was not heard of for too long", expired),
            ("attempts", "Attempts at the jobs that are kept", attempts),
            ("lost_attempts", "Attempts whose process died", deaths),
            ("webhooks_waiting", "Webhook messages not yet delivered", waiting),
        )
        for name, text, value in gauges:
            yield GaugeMetricFamily(f"secateur_{name}", text, value=value)
        durations = [(str(float(limit)), float(n)) for limit, n in zip(_DURATIONS_S, row[2:], strict=True)]
        yield HistogramMetricFamily(
            "secateur_job_duration_seconds",
            "From the first attempt to the end",
            buckets=[*durations, ("+Inf", float(row[0]))],
            sum_value=float(row[1] or 0.0),
        )
