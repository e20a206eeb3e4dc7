"""Profiles on disk: what loads, what wins, and what each mistake is told."""

from __future__ import annotations

import copy
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from hwprofiles import _toml
from hwprofiles.device import DeviceProfile
from hwprofiles.errors import MalformedProfile, ProfileError, UnknownProfile
from hwprofiles.registry import list_profiles, load_profile, parse_profile, save_profile

EXPECTED = {
    "host-cpu-onnxruntime",
    "host-cpu-litert",
    "pixel4-1large-tflite-fp32",
    "pixel4-gpu-tflite-fp32",
    "a100-tensorrt-fp16",
    "tpu-v5e",
}


@pytest.mark.parametrize("profile", list_profiles(), ids=lambda profile: profile.id)
def test_every_profile_survives_a_round_trip(profile: DeviceProfile, tmp_path: Path) -> None:
    """Saved and read again, a profile is equal to itself, and its dictionary is plain JSON."""
    save_profile(profile, tmp_path)
    assert load_profile(profile.id, [tmp_path]) == profile
    assert json.loads(json.dumps(profile.to_dict(), allow_nan=False))["id"] == profile.id


@pytest.mark.parametrize("profile", list_profiles(), ids=lambda profile: profile.id)
def test_every_profile_says_where_its_numbers_come_from(profile: DeviceProfile) -> None:
    """A source and a licence stand in each file; a fitted one has a held-out error, a roofline claims none."""
    assert profile.source
    assert profile.licence
    assert (profile.held_out_error is None) == (profile.latency_kind == "roofline")


def test_the_promised_profiles_are_there() -> None:
    """The host, a phone's CPU and GPU, a data-centre GPU and a TPU ship with the package."""
    assert {profile.id for profile in list_profiles()} >= EXPECTED


def test_a_profile_of_the_user_wins(tmp_path: Path) -> None:
    """A file in an extra folder replaces the built-in one of the same id; a missing folder is no error."""
    fields = load_profile("tpu-v5e").to_dict() | {"name": "mine"}
    save_profile(parse_profile(fields), tmp_path)
    assert load_profile("tpu-v5e", [tmp_path / "absent", tmp_path]).name == "mine"
    assert [profile.name for profile in list_profiles([tmp_path]) if profile.id == "tpu-v5e"] == ["mine"]


def test_an_unknown_id_names_the_nearest_ones() -> None:
    """The error names what was asked for and what is near; the whole list stays a field, too long for a sentence."""
    with pytest.raises(UnknownProfile, match=r"'a100-tensort'.* a100-tensorrt-fp16") as caught:
        load_profile("a100-tensort")
    assert len(str(caught.value)) < 300
    assert "tpu-v5e" in caught.value.known
    assert isinstance(caught.value, ProfileError)


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ("pixel4", "pixel4-1large-tflite-fp32"),
        ("Pixel 4", "pixel4-1large-tflite-fp32"),
        ("int8 pixel4 small", "pixel4-1small-tflite-int8"),
    ],
)
def test_words_of_an_id_are_enough_to_be_shown_it(asked: str, named: str) -> None:
    """In any order and case; a few of them, and how many more there are."""
    with pytest.raises(UnknownProfile, match=named) as caught:
        load_profile(asked)
    assert len(str(caught.value)) < 300


NO_RULE = {"executed": False, "reason": "none", "source": "none"}


def fitted(**paths: dict[str, float]) -> dict[str, Any]:
    """The latency table of a fitted profile."""
    return {"kind": "fitted model", "paths": paths}


def bad_rate(macs_per_s: float) -> dict[str, Any]:
    """The latency table of a roofline."""
    return {"kind": "roofline", "roofline": {"macs_per_s": macs_per_s, "dram_bytes_per_s": 1.0}}


MISTAKES: list[tuple[dict[str, Any], str, str]] = [
    ({"colour": "red"}, "colour", "README"),
    ({"id": "../etc"}, "id", "a-z A-Z"),
    ({"threads": "2"}, "threads", "an integer"),
    ({"threads": True}, "threads", "an integer"),
    ({"threads": 0}, "threads", "1 or more"),
    ({"channel_grid": 0}, "channel_grid", "1 or more"),
    ({"dtype": "fp17"}, "dtype", "fp32"),
    ({"date": "yesterday"}, "date", "YYYY-MM-DD"),
    ({"provenance": "hearsay"}, "provenance", "data sheet"),
    ({"latency": {"kind": "roofline"}}, "latency.roofline", "macs_per_s"),
    ({"latency": {"kind": "fitted model"}}, "latency.paths", "coefficients"),
    ({"latency": {"kind": "guess"}}, "latency.kind", "roofline"),
    ({"latency": fitted(conv={"macs": -1e-9})}, "latency.paths.conv.macs", "0 or more"),
    ({"latency": fitted(conv={"flops": 1.0})}, "latency.paths.conv.flops", "macs"),
    ({"latency": fitted(convolve={"macs": 1.0})}, "latency.paths.convolve", "pointwise"),
    ({"latency": bad_rate(0.0)}, "latency.roofline.macs_per_s", "above 0"),
    ({"held_out_error": {"mape": 0.1, "spearman": 1.5, "n": 5, "log_error_q90": 0.1}}, "held_out_error.spearman", "-1 to 1"),
    ({"sparsity": [{"structure": "lattice"} | NO_RULE]}, "sparsity.0.structure", "unstructured"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "field", "allowed"), MISTAKES, ids=[field for _, field, _ in MISTAKES])
def test_a_mistake_is_named_with_its_field(change: dict[str, Any], field: str, allowed: str) -> None:
    """The error carries the dotted field, and its text what is allowed."""
    with pytest.raises(MalformedProfile, match=allowed) as caught:
        parse_profile(copy.deepcopy(load_profile("tpu-v5e").to_dict()) | change)
    assert caught.value.field == field


def test_a_missing_field_is_named() -> None:
    """A profile without a runtime says so."""
    fields = load_profile("tpu-v5e").to_dict()
    del fields["runtime"]
    with pytest.raises(MalformedProfile, match="required") as caught:
        parse_profile(fields)
    assert caught.value.field == "runtime"


def test_a_calibration_of_another_release_gives_way_to_the_stand_in(tmp_path: Path) -> None:
    """This machine is measured anew then; a user's file of another device is refused, as nothing can replace it."""
    for name in ("host-cpu-onnxruntime", "tpu-v5e"):
        path = save_profile(load_profile(name), tmp_path)
        path.write_text("a_field_of_another_release = 1\n" + path.read_text())
    assert load_profile("host-cpu-onnxruntime", [tmp_path]) == load_profile("host-cpu-onnxruntime")
    with pytest.raises(MalformedProfile, match="a_field_of_another_release"):
        load_profile("tpu-v5e", [tmp_path])


def test_a_file_must_be_toml_and_bear_its_id(tmp_path: Path) -> None:
    """Broken TOML and a file named unlike its profile are refused, both with the file's or the field's name."""
    (tmp_path / "broken.toml").write_text("id = ")
    with pytest.raises(MalformedProfile, match=r"broken\.toml"):
        load_profile("broken", [tmp_path])
    save_profile(load_profile("tpu-v5e"), tmp_path).rename(tmp_path / "other.toml")
    with pytest.raises(MalformedProfile, match="name of its file"):
        load_profile("other", [tmp_path])


def test_toml_writer_agrees_with_the_standard_reader() -> None:
    """Quotes, unicode, tables in lists, floats and infinity come back as they were."""
    value = {
        "text": 'a "quoted"\n\\ line, é, \x7f', "n": 3, "x": 1e-12, "inf": float("inf"), "yes": True, "list": ["a"], "empty": [],
        "nothing": {}, "table": {"a b": 1, "deep": {"k": 2.5}}, "rows": [{"k": 1}, {"k": 2, "sub": {"z": False}}],
    }  # fmt: skip
    assert tomllib.loads(_toml.dumps(value | {"none": None})) == value
