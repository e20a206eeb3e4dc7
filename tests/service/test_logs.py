"""Logs and metrics: what happened can be followed from request to child, and no secret is told."""

from __future__ import annotations

import json
import logging
import re

import pytest
from flask.testing import FlaskClient

from service import logs
from service.settings import Settings
from service.worker import run_job

from .conftest import plan, submit


def line(formatter: logging.Formatter, message: str, *arguments: object) -> str:
    """A log line."""
    return formatter.format(logging.LogRecord("n", logging.INFO, "f", 1, message, arguments, None))


@pytest.mark.parametrize("formatter", [logs.JsonFormatter(), logs.TextFormatter()])
def test_no_secret_and_no_second_line(formatter: logging.Formatter) -> None:
    """Keys, webhook secrets and passwords are starred out; what a client sends cannot begin a line."""
    key = "sk_0123456789ab_" + 43 * "k"
    told = line(formatter, "%s %s %s\nFAKE", key, "whsec_c2VjcmV0", "postgresql://me:hunter2@db/x")
    assert "\n" not in told
    assert "sk_0123456789ab" in told
    assert not re.search(r"kkk|c2VjcmV0|hunter2", told)


def test_one_request_id_joins_web_worker_and_child(
    http: FlaskClient, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """The id of the submission is in the audit lines of web and worker and in the child's log."""
    written: list[str] = []
    handler = logging.Handler()
    handler.setFormatter(logs.JsonFormatter())
    handler.emit = lambda record: written.append(handler.format(record))  # type: ignore[method-assign]
    logs.audit.addHandler(handler)
    logs.audit.setLevel(logging.INFO)
    try:
        http.environ_base["HTTP_X_REQUEST_ID"] = "trace-1"
        job = submit(http, plan(silent=True))
        run_job(settings, job["id"], lambda: False)
    finally:
        logs.audit.removeHandler(handler)
    lines = [json.loads(text) for text in written]
    submitted = [entry for entry in lines if entry["message"].startswith("submitJob")]
    attempts = [entry for entry in lines if entry["message"].startswith("attempt")]
    assert {entry["request_id"] for entry in submitted + attempts} == {"trace-1"}
    assert {entry["job_id"] for entry in attempts} == {job["id"]}
    child = (settings.jobs_dir / job["id"] / "child.log").read_text().splitlines()[0]
    assert json.loads(child) == {"job": job["id"], "attempt": 1, "request_id": "trace-1"}


def test_metrics_count_what_there_is(http: FlaskClient, settings: Settings) -> None:
    """States, depth, attempts, durations and requests are those of the jobs that ran."""
    from prometheus_client.parser import text_string_to_metric_families

    done, _waiting = submit(http), submit(http)
    run_job(settings, done["id"], lambda: False)
    answer = http.get("/metrics")
    assert answer.content_type.startswith("text/plain")
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert found["secateur_jobs", "succeeded"] == found["secateur_jobs", "queued"] == 1
    assert found["secateur_queue_depth",] == found["secateur_attempts",] == 1
    assert found["secateur_expired_leases",] == 0
    assert found["secateur_job_duration_seconds_count",] == 1
    assert found["secateur_job_duration_seconds_bucket", "300.0"] == 1
    assert found["secateur_http_requests_total", "POST", "submitJob", "202"] == 2
