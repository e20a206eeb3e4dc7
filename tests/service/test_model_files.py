"""Models of several files: laid out in the job's directory as their tensors name them, and nothing outside of it is touched."""

from __future__ import annotations

import dataclasses
import io
import json
import stat
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from flask.testing import FlaskClient
from onnx import TensorProto, helper, numpy_helper

from search.__main__ import main as engine
from search.wire.errors import ExternalDataRefused, InvalidModel, ResourceLimit, SecateurError
from service import model_files, protocol
from service.app import create_app
from service.artifacts import BlobStore
from service.client import Client
from service.commands.beside import data_files
from service.settings import Settings
from service.worker import run_job

from .conftest import PROFILE, plan, upload
from .test_cli import Cli, cli  # noqa: F401 - a fixture

WEIGHTS, MORE = b"w" * 1000, b"v" * 10
LOCATIONS = ["m.onnx.data", "more/v.bin"]
SPEC = json.dumps({"profiles": [PROFILE]})


def packed(members: dict[str, bytes]) -> bytes:
    """A .zip."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def results(http: FlaskClient, settings: Settings, job: dict[str, Any]) -> dict[str, bytes]:
    """Run the job here; its model files by name."""
    run_job(settings, job["id"], lambda: False)
    done = http.get(job["urls"]["self"]).get_json()
    assert done["status"] == "succeeded", done["error"]
    rows = http.get(job["urls"]["artifacts"]).get_json()["data"]
    return {row["name"]: http.get(row["url"]).data for row in rows if row["name"].startswith("points/")}


def test_a_form_takes_a_model_of_three_files(http: FlaskClient, settings: Settings) -> None:
    """The engine finds each data file where the model names it, and data files of results are results like others."""
    parts = [(io.BytesIO(WEIGHTS), "m.onnx.data"), (io.BytesIO(MORE), "more/v.bin")]
    form = {"model": (io.BytesIO(plan(files=LOCATIONS)), "m.onnx"), "model_data": parts, "spec": SPEC}
    answer = http.post("/v1/jobs", data=form)
    assert answer.status_code == 202, answer.get_json()
    files = results(http, settings, answer.get_json())
    assert files[f"points/{PROFILE}/p1.m.onnx.data"] == WEIGHTS
    assert files[f"points/{PROFILE}/p1.v.bin"] == MORE


def test_uploaded_files_make_a_model(http: FlaskClient, settings: Settings) -> None:
    """By ids, for a job and for a dry run; the same weights beside another model are stored once."""
    ids = {name: upload(http, data, "model_data") for name, data in zip(LOCATIONS, (WEIGHTS, MORE), strict=True)}
    body = {"model": upload(http, plan(files=LOCATIONS)), "model_data": ids, "profiles": [PROFILE]}
    looked = http.post("/v1/inspect", json=body)
    assert looked.status_code == 200, looked.get_json()
    job = http.post("/v1/jobs", json=body)
    assert results(http, settings, job.get_json())[f"points/{PROFILE}/p1.v.bin"] == MORE
    alone = http.post("/v1/inspect", json={**body, "model_data": {}})
    assert (alone.status_code, alone.get_json()["type"]) == (409, "invalid-model")


@pytest.mark.parametrize("folder", ["", "exported/resnet/"])
def test_an_archive_is_a_model(http: FlaskClient, settings: Settings, folder: str) -> None:
    """One .zip with the .onnx file at its top or in a folder, as a form's model and as an upload for a dry run."""
    members = {f"{folder}m.onnx": plan(files=LOCATIONS), f"{folder}m.onnx.data": WEIGHTS, f"{folder}more/v.bin": MORE}
    archive = packed(members | {"__MACOSX/._m.onnx": b"finder"})
    answer = http.post("/v1/jobs", data={"model": (io.BytesIO(archive), "m.zip"), "spec": SPEC})
    assert answer.status_code == 202, answer.get_json()
    assert results(http, settings, answer.get_json())[f"points/{PROFILE}/p1.v.bin"] == MORE
    looked = http.post("/v1/inspect", json={"model": upload(http, archive), "profiles": [PROFILE]})
    assert looked.status_code == 200, looked.get_json()


def archive_with(name: str = "w.data", **fields: int) -> bytes:
    """A .zip whose second member has these fields in its directory entry."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("m.onnx", plan())
        info = zipfile.ZipInfo(name)
        archive.writestr(info, b"w")
        for field, value in fields.items():
            setattr(info, field, value)
    return file.getvalue()


def doubled() -> bytes:
    """A .zip that holds a name twice."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in (("m.onnx", plan()), ("w.data", b"a")):
            archive.writestr(name, data)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("w.data", b"b")
    return file.getvalue()


def overlapping() -> bytes:
    """A .zip whose two data files are the same bytes: the start of a bomb."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("m.onnx", plan())
        archive.writestr("w.data", b"w" * 100)
        archive.writestr("v.data", b"v" * 100)
        archive.getinfo("v.data").header_offset = archive.getinfo("w.data").header_offset
    return file.getvalue()


@pytest.mark.parametrize(
    ("archive", "kind"),
    [
        (lambda: packed({"m.onnx": plan(), "../w.data": b"w"}), "external-data-refused"),
        (lambda: packed({"m.onnx": plan(), "/etc/w.data": b"w"}), "external-data-refused"),
        (lambda: packed({"a/m.onnx": plan(), "w.data": b"w"}), "external-data-refused"),
        (lambda: packed({"m.onnx": plan(), "request.json": b"{}"}), "external-data-refused"),
        (lambda: archive_with(external_attr=(stat.S_IFLNK | 0o777) << 16), "external-data-refused"),
        (lambda: archive_with(flag_bits=1), "external-data-refused"),
        (doubled, "external-data-refused"),
        (overlapping, "external-data-refused"),
        (lambda: packed({"m.onnx": plan(), "n.onnx": plan()}), "invalid-model"),
        (lambda: packed({"w.data": b"w"}), "invalid-model"),
        (lambda: packed({"m.onnx": plan()})[:-30], "invalid-model"),
        (lambda: packed({"m.onnx": plan(), "w.data": bytes(3 * 2**20)}), "resource-limit"),
        (lambda: packed({"m.onnx": plan()} | {f"{i}.data": b"" for i in range(1100)}), "resource-limit"),
    ],
)
def test_an_archive_is_looked_through_first(settings: Settings, archive: Any, kind: str) -> None:
    """Before a job or a dry run is made of it; three megabytes of zeros in three kilobytes are told by their size."""
    http = create_app(dataclasses.replace(settings, max_upload_bytes=2 * 2**20)).test_client()
    data = archive()
    assert len(data) < 200_000
    form = http.post("/v1/jobs", data={"model": (io.BytesIO(data), "m.zip"), "spec": SPEC})
    looked = http.post("/v1/inspect", json={"model": upload(http, data), "profiles": [PROFILE]})
    for answer in (form, looked):
        assert (answer.status_code, answer.get_json()["type"]) == (422, kind), answer.get_json()


def test_a_damaged_member_fails_the_job(http: FlaskClient, settings: Settings) -> None:
    """What only reading shows is the job's error at its first attempt, and no other follows."""
    archive = bytearray(packed({"m.onnx": plan(files=["w.data"]), "w.data": WEIGHTS}))
    place = archive.index(b"w.data") + len(b"w.data")
    archive[place + 2] ^= 0xFF
    answer = http.post("/v1/jobs", data={"model": (io.BytesIO(bytes(archive)), "m.zip"), "spec": SPEC})
    job = answer.get_json()
    assert run_job(settings, job["id"], lambda: False) == "failed"
    assert http.get(job["urls"]["self"]).get_json()["error"]["type"] == "invalid-model"


@pytest.mark.parametrize(
    "location",
    ["../w", "/etc/passwd", "a/../../w", "./w", "a//w", "a\\w", "C:\\w", "data.npz", "units/1", "a\nb", "é" * 200, ""],
)
def test_locations_stay_in_the_models_folder(location: str) -> None:
    """Each is refused by its name."""
    with pytest.raises(ExternalDataRefused):
        model_files.check_location(location)


def test_a_file_is_no_folder() -> None:
    """Locations that exclude each other on a disk, and too many of them."""
    with pytest.raises(ExternalDataRefused, match="folder"):
        model_files.check_locations(["a", "a/b"])
    with pytest.raises(ResourceLimit):
        model_files.check_locations([str(i) for i in range(model_files.MOST_FILES + 1)])
    model_files.check_locations(["a.data", "a/b", "a/c", "..data", "weights 1.bin"])


@pytest.mark.parametrize("names", [["w", "w"], ["../w"], ["out"]])
def test_a_form_with_bad_locations_is_refused(http: FlaskClient, names: list[str]) -> None:
    """Names given twice, outside, or of the job's own."""
    parts = [(io.BytesIO(b"w"), name) for name in names]
    answer = http.post("/v1/jobs", data={"model": (io.BytesIO(plan()), "m"), "model_data": parts, "spec": SPEC})
    assert answer.status_code == 422
    assert names[0] in answer.get_json()["detail"]


def test_data_files_count_in_limits_and_quotas(settings: Settings) -> None:
    """Together they are no larger than a model may be, and all of their bytes are the tenant's."""
    small = create_app(dataclasses.replace(settings, max_upload_bytes=1500)).test_client()
    ids = {f"{i}": upload(small, bytes([i]) * 800, "model_data") for i in range(2)}
    answer = small.post("/v1/jobs", json={"model": upload(small, plan()), "model_data": ids, "profiles": [PROFILE]})
    assert (answer.status_code, answer.get_json()["type"]) == (413, "too-large")
    from service import keys
    from service.store import Store

    counted = dataclasses.replace(settings, api_keys="on", max_stored_bytes=2000)
    store = Store.open(counted)
    bearer = {"Authorization": f"Bearer {keys.create(store, 'a', '')[1]}"}
    parts = [(io.BytesIO(bytes([i]) * 900), f"{i}") for i in range(3)]
    form = {"model": (io.BytesIO(plan()), "m"), "model_data": parts, "spec": SPEC}
    answer = create_app(counted).test_client().post("/v1/jobs", data=form, headers=bearer)
    assert (answer.status_code, answer.get_json()["type"]) == (429, "quota-exceeded")
    store.close()


def test_a_link_left_by_a_child_leads_nowhere(settings: Settings, tmp_path: Path) -> None:
    """The next attempt writes its inputs into the job's directory, not through a link that the last one's child made."""
    blobs = BlobStore.of(settings)
    with blobs.writer() as writer:
        writer.write(plan())
        sha256 = writer.seal().sha256
        writer.keep()
    directory, outside = tmp_path / "job", tmp_path / "outside"
    outside.mkdir()
    (directory / "units").mkdir(parents=True)
    (directory / "units" / "1").write_text("done")
    (directory / "model.onnx.part").symlink_to(outside / "a")
    (directory / "weights").symlink_to(outside)
    (directory / "child.log").symlink_to(outside / "b")
    inputs = protocol.Inputs(model=sha256, model_data={"weights/w": sha256})
    protocol.write_request(directory, {}, blobs, inputs, 10**6)
    assert list(outside.iterdir()) == []
    assert (directory / "weights" / "w").read_bytes() == (directory / "model.onnx").read_bytes() == plan()
    assert (directory / "units" / "1").read_text() == "done"
    assert not (directory / "child.log").exists()


def with_data_beside(folder: Path, *locations: str) -> Path:
    """A real model whose weights lie in files of these locations, one each."""
    nodes, weights = [], []
    for i, location in enumerate(locations):
        nodes.append(helper.make_node("Add", [f"x{i}", f"w{i}"], [f"x{i + 1}"]))
        weight = numpy_helper.from_array(np.full(1000, i, np.float32), f"w{i}")
        onnx.external_data_helper.set_external_data(weight, location)
        weights.append(weight)
    ends = [helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, [1000]) for i in (0, len(locations))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    for weight, location in zip(weights, locations, strict=True):
        target = folder / location
        if target.resolve().is_relative_to(folder) and not target.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(weight.raw_data)
        weight.ClearField("raw_data")
    (folder / "m.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    return folder / "m.onnx"


def test_the_engine_names_the_files(tmp_path: Path) -> None:
    """`python -m search files` lists what the tensors of a real model name."""
    with_data_beside(tmp_path, "m.onnx.data", "more/v.bin").rename(tmp_path / "model.onnx")
    assert engine(["files", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "files.json").read_text()) == LOCATIONS


def test_files_beside_a_model_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real engine says which; one that is missing, a link or outside ends the command with a sentence."""
    monkeypatch.setenv("SECATEUR_CACHE_DIR", str(tmp_path / "cache"))
    good = tmp_path / "good"
    good.mkdir()
    model = with_data_beside(good, "m.onnx.data", "more/v.bin")
    assert data_files(model) == {name: good / name for name in LOCATIONS}
    (good / "more" / "v.bin").unlink()
    with pytest.raises(InvalidModel, match="which is not in"):
        data_files(model)
    (good / "more" / "v.bin").symlink_to(good / "m.onnx.data")
    with pytest.raises(ExternalDataRefused, match="link"):
        data_files(model)
    for i, location in enumerate(("../w", "/etc/hostname")):
        folder = tmp_path / f"bad{i}"
        folder.mkdir()
        with pytest.raises(SecateurError, match="outside"):
            data_files(with_data_beside(folder, location))


def test_the_command_line_takes_models_of_several_files(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    """`compress` and `inspect` read the files beside the model; a .zip goes in as it is."""
    model = tmp_path / "net.onnx"
    model.write_bytes(plan(files=["w.data"], location=True))
    (tmp_path / "w.data").write_bytes(WEIGHTS)
    (tmp_path / "net.zip").write_bytes(packed({"n/net.onnx": plan(files=["w.data"]), "n/w.data": WEIGHTS}))
    for name in ("net.onnx", "net.zip"):
        run = cli("compress", str(tmp_path / name), "--out", str(tmp_path / "out" / name), "--json")
        assert run.returncode == 0, run.stdout + run.stderr
        assert (tmp_path / "out" / name / "points" / PROFILE / "p1.w.data").read_bytes() == WEIGHTS
        assert cli("inspect", str(tmp_path / name), "--json").returncode == 0
    (tmp_path / "w.data").unlink()
    refused = cli("compress", str(model), "--json")
    assert json.loads(refused.stdout)["type"] == "invalid-model"


def test_submit_sends_every_file(
    cli: Cli,  # noqa: F811
    url: str,
    settings: Settings,
    tmp_path: Path,
) -> None:
    """From `submit` to `download`: results with data files of their own arrive under their names."""
    model = tmp_path / "net.onnx"
    model.write_bytes(plan(files=["w.data"], location=True))
    (tmp_path / "w.data").write_bytes(WEIGHTS)
    job = json.loads(cli("submit", str(model), "--url", url, "--json").stdout)
    assert job["model"]["name"] == "net.onnx"
    assert "net.onnx" in cli("status", "--url", url).stdout
    assert "net.onnx" in cli("status", job["id"], "--url", url).stdout
    assert run_job(settings, job["id"], lambda: False) == "succeeded"
    with Client(url) as client:
        client.download(job["id"], tmp_path / "got")
    assert (tmp_path / "got" / "points" / PROFILE / "p1.w.data").read_bytes() == WEIGHTS
