"""Work in a service elsewhere: ``SECATEUR_URL``, or ``--url``; ``SECATEUR_API_KEY`` where it wants a key."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from search.wire.request import JobSpec
from service.client import Client
from service.commands.beside import data_files
from service.commands.options import EXISTING_FILE, as_json, out_dir, spec_flags
from service.console import JobProgress, print_error, print_fronts, print_json, print_rows, stdout

_url = click.option(
    "--url", envvar="SECATEUR_URL", default="http://127.0.0.1:8080", show_default=True, help="The service."
)
_job_id = click.argument("job_id")
Job = dict[str, Any]


@click.command()
@click.argument("model", type=EXISTING_FILE)
@click.option("--data", type=EXISTING_FILE, help="Samples as .npz with x and, optionally, y.")
@click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="Kept with the job; may be repeated.")
@_url
@spec_flags
@as_json
def submit(
    *, model: Path, data: Path | None, metadata: tuple[str, ...], url: str, spec: JobSpec, as_json: bool
) -> None:
    """Upload MODEL and start a job."""
    unfit = [pair for pair in metadata if "=" not in pair]
    if unfit:
        raise click.UsageError(f"--metadata {unfit[0]!r} has no `=`; give KEY=VALUE")
    with _client(url) as client:
        job = client.submit(spec, model, data, dict(pair.split("=", 1) for pair in metadata), data_files(model))
    if as_json:
        print_json(job)
    else:
        stdout.print(f"{job['id']} {job['status']}; secateur watch {job['id']}", markup=False)


@click.command()
@click.argument("job_id", required=False)
@_url
@as_json
def status(job_id: str | None, url: str, as_json: bool) -> None:
    """Show a job, or the newest ones."""
    with _client(url) as client:
        answer = client.job(job_id) if job_id is not None else client.jobs()
    if as_json:
        print_json(answer)
    elif job_id is not None:
        _print_job(answer)
    else:
        rows = [
            (job["id"], job["model"]["name"] or "", job["status"], ", ".join(job["profiles"]), job["created_at"])
            for job in answer["data"]
        ]
        print_rows("jobs", ("id", "model", "status", "targets", "created"), rows)


@click.command()
@_job_id
@_url
@as_json
def watch(job_id: str, url: str, as_json: bool) -> None:
    """Follow a job to its end."""
    with _client(url) as client:
        job = follow(client, job_id)
        if as_json:
            print_json(job)
        else:
            _print_job(job)
            if job["best"] is not None:
                print_fronts(client.front(job_id))
    if job["status"] == "failed":
        click.get_current_context().exit(1)


def follow(client: Client, job_id: str) -> Job:
    """Show a job's progress to its end; the job then."""
    job: Job = {}
    warned = 0
    with JobProgress() as progress:
        for job in client.watch(job_id):
            for message in job["warnings"][warned:]:
                progress.warn(message)
            warned = len(job["warnings"])
            progress.show(job["stage"] or job["status"], job["progress"]["fraction"])
    return job


@click.command()
@_job_id
@_url
@as_json
def cancel(job_id: str, url: str, as_json: bool) -> None:
    """Cancel a job; what it found so far is kept."""
    with _client(url) as client:
        job = client.cancel(job_id)
    if as_json:
        print_json(job)
    else:
        _print_job(job)


@click.command()
@_job_id
@click.argument("names", nargs=-1)
@_url
@out_dir
@as_json
def download(job_id: str, names: tuple[str, ...], url: str, out: Path | None, as_json: bool) -> None:
    """Fetch NAMES of a job's files, or all, and check their digests."""
    with _client(url) as client:
        paths = client.download(job_id, out or Path("out") / job_id, names)
    if as_json:
        print_json({"data": [str(path) for path in paths]})
    else:
        for path in paths:
            stdout.print(str(path), markup=False)


def _client(url: str) -> Client:
    return Client(url, os.environ.get("SECATEUR_API_KEY", ""))


def _print_job(job: Job) -> None:
    files = " with ".join(file["name"] for file in (job["model"], job["dataset"]) if file is not None and file["name"])
    line = f"{job['id']} {files} {job['status']}".replace("  ", " ") + f", {job['progress']['fraction']:.0%}"
    stdout.print(f"{line} ({job['stage']})" if job["stage"] else line, markup=False)
    if job["error"] is not None:
        print_error(job["error"], as_json=False)
