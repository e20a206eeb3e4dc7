"""Rows that a user measured: a fit from JSON and CSV, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from hwprofiles.errors import MalformedProfile, UnfitRows
from hwprofiles.registry import load_profile
from hwprofiles.rows import Planned, parse_rows, profile_from_rows, read_results, write_manifest
from tests.hwprofiles.test_fit import planted_rows

LIKE = load_profile("pixel4-1large-tflite-fp32")


def rows(count: int = 60) -> list[dict[str, Any]]:
    """Planted networks as JSON values."""
    return [
        {"network": row.name, "family": row.family, "latency_ms": row.latency_s * 1e3,
         "workloads": json.loads(json.dumps([dataclasses.asdict(workload) for workload in row.workloads]))}
        for row in planted_rows(count)
    ]  # fmt: skip


def test_rows_become_a_profile_with_its_error() -> None:
    """Planted times come back exactly; the profile keeps the rules of the one it is like and says who measured."""
    profile = profile_from_rows("my-phone", "My phone", LIKE, parse_rows(rows(120)))
    assert (profile.id, profile.provenance, profile.sparsity) == ("my-phone", "measured by a user", LIKE.sparsity)
    assert profile.held_out_error is not None
    assert profile.held_out_error.mape < 0.02
    assert profile.held_out_error.n == 120


def test_a_manifest_and_a_table_give_the_same_rows(tmp_path: Path) -> None:
    """What is written for a device comes back with the times filled in; lines without a time are left out."""
    given = parse_rows(rows(30))
    write_manifest(tmp_path / "manifest.json", [Planned(row.network, row.family, row.workloads) for row in given])
    lines = [f"{row.network},{row.latency_ms!r}" for row in given]
    (tmp_path / "results.csv").write_text("\n".join(["network,latency_ms", *lines, "n0,"]))
    assert read_results(tmp_path / "results.csv") == given


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda all_rows: all_rows[:5], "at least 20"),
        (lambda all_rows: [*all_rows, all_rows[0] | {"latency_ms": 9 * all_rows[0]["latency_ms"]}], "contradict"),
        (lambda all_rows: [row | {"latency_ms": (17 * i) % 83 + 1} for i, row in enumerate(all_rows)], "kept aside"),
        (lambda all_rows: [all_rows[0] | {"latency_ms": -1.0}, *all_rows], "above 0"),
    ],
    ids=["few", "contradicting", "random", "negative"],
)
def test_useless_rows_are_refused_with_the_reason(change: Any, message: str) -> None:
    """Too few, contradicting, unrelated and impossible times each say so."""
    with pytest.raises(UnfitRows, match=message):
        profile_from_rows("x", "x", LIKE, parse_rows(change(rows())))


def test_a_row_of_a_wrong_shape_is_named() -> None:
    """A missing time and a workload of an unknown kind are named with their place, and what is allowed."""
    with pytest.raises(MalformedProfile, match="required") as caught:
        parse_rows([{"network": "a", "workloads": []}])
    assert caught.value.field == "rows.0.latency_ms"
    broken = rows(1)
    broken[0]["workloads"][0]["kind"] = "magic"
    with pytest.raises(MalformedProfile, match="conv, dense") as caught:
        parse_rows(broken)
    assert caught.value.field == "rows.0.workloads.0.kind"


def test_a_table_of_other_networks_is_refused(tmp_path: Path) -> None:
    """No manifest, other columns, an unknown network and a time that is no number each say so."""
    table = tmp_path / "results.csv"
    table.write_text("network,latency_ms\nn0,1\n")
    with pytest.raises(UnfitRows, match="manifest"):
        read_results(table)
    write_manifest(tmp_path / "manifest.json", [Planned("n1", "f", ())])
    with pytest.raises(UnfitRows, match="no network `n0`"):
        read_results(table)
    table.write_text("network,latency_ms\nn1,fast\n")
    with pytest.raises(UnfitRows, match="'fast'"):
        read_results(table)
    table.write_text("name,ms\nn1,1\n")
    with pytest.raises(UnfitRows, match="needs network and latency_ms"):
        read_results(table)
