"""Being the service: all of it on this machine, or one part of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from service import launch
from service.commands.options import FOLDER, as_json
from service.console import print_json, stderr, stdout
from service.settings import Settings
from service.worker import consume as take_jobs

_DEFAULTS = Settings()
_host = click.option("--host", help=f"Address to listen on.  [default: {_DEFAULTS.host}]")
_port = click.option("--port", type=int, help=f"Port to listen on; 0 for a free one.  [default: {_DEFAULTS.port}]")
_data_dir = click.option("--data-dir", type=FOLDER, help="Where rows and files are kept.")


@click.command()
@_host
@_port
@_data_dir
@as_json
def up(*, host: str | None, port: int | None, data_dir: Path | None, **options: bool) -> None:
    """Run the whole service on this machine; Ctrl-C stops it."""

    def ready(address: str) -> None:
        if options["as_json"]:
            print_json({"url": address})
            sys.stdout.flush()
        else:
            stdout.print(f"Secateur answers at {address} - Ctrl-C stops it")

    launch.up(Settings.from_env(host=host, port=port, data_dir=data_dir), launch.stop_on_signals(), ready)


@click.command()
@_host
@_port
@_data_dir
def web(host: str | None, port: int | None, data_dir: Path | None) -> None:
    """Run the web server alone; workers must share its database, broker and data directory."""
    settings = Settings.from_env(host=host, port=port, data_dir=data_dir)
    command = launch.web_command()
    os.execve(command[0], command, {**os.environ, **settings.to_env()})  # noqa: S606 - becoming it is the point


@click.command()
@_data_dir
@click.option("--consume", is_flag=True, hidden=True, help="Be the part that takes jobs, without the reconciler.")
def worker(data_dir: Path | None, consume: bool) -> None:
    """Run a worker and the reconciler; SIGTERM gives a running job back to the queue."""
    settings = Settings.from_env(data_dir=data_dir)
    if consume:
        take_jobs(settings)
        return
    stderr.print("worker started")
    launch.work(settings, launch.stop_on_signals())
