"""API keys: who may use the service, and on whose behalf."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from service import keys as api_keys
from service.commands.options import FOLDER, as_json
from service.console import print_json, print_rows, stdout
from service.logs import audit
from service.settings import Settings
from service.store import Store
from service.tables import ApiKey

_data_dir = click.option("--data-dir", type=FOLDER, help="Where the service keeps its data.")


@click.group()
def keys() -> None:
    """Make, list and revoke API keys; run it where the service's settings are."""


@keys.command()
@click.option("--tenant", required=True, help="Owner of what is made with the key.")
@click.option("--name", default="", help="For people.")
@_data_dir
@as_json
def create(*, tenant: str, name: str, data_dir: Path | None, as_json: bool) -> None:
    """Make a key and print it; it cannot be shown again."""
    with _store(data_dir) as store:
        row, key = api_keys.create(store, tenant, name)
    audit.info("key %s created for tenant %s", row.id, tenant)
    if as_json:
        print_json({**_view(row), "key": key})
    else:
        stdout.print(key, markup=False, soft_wrap=True)


@keys.command("list")
@_data_dir
@as_json
def list_keys(data_dir: Path | None, *, as_json: bool) -> None:
    """Show every key without its secret."""
    with _store(data_dir) as store:
        rows = [_view(row) for row in api_keys.listed(store)]
    if as_json:
        print_json({"data": rows})
    else:
        cells = [(row["id"], row["tenant"], row["name"], "revoked" if row["revoked"] else "") for row in rows]
        print_rows("keys", ("id", "tenant", "name", ""), cells)


@keys.command()
@click.argument("key_id")
@_data_dir
@as_json
def revoke(key_id: str, data_dir: Path | None, *, as_json: bool) -> None:
    """Make the key KEY_ID useless at once."""
    with _store(data_dir) as store:
        row = api_keys.revoke(store, key_id)
    audit.info("key %s of tenant %s revoked", row.id, row.tenant)
    if as_json:
        print_json(_view(row))
    else:
        stdout.print(f"{row.id} is revoked", markup=False)


@contextmanager
def _store(data_dir: Path | None) -> Iterator[Store]:
    store = Store.open(Settings.from_env(data_dir=data_dir))
    try:
        yield store
    finally:
        store.close()


def _view(row: ApiKey) -> dict[str, Any]:
    return {"id": row.id, "tenant": row.tenant, "name": row.name, "revoked": row.revoked_at is not None}
