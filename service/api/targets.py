"""Device profiles, and what one makes of a model before any search."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import flask
from flask.typing import ResponseReturnValue

from hwprofiles.device import DeviceProfile
from hwprofiles.errors import ProfileError, UnknownProfile
from hwprofiles.registry import list_profiles, load_profile, parse_profile, save_profile
from hwprofiles.rows import parse_rows, profile_from_rows
from search.errors import FAULT_OF_OURS, InternalError, ResourceLimit
from search.report import Inspection
from service import protocol, sandbox
from service.api import models
from service.api.context import Context, current
from service.api.operations import JSON, Answer, Operation
from service.api.parsing import json_body, query
from service.api.schemas import InspectCreate, NoQuery, ProfileCreate, ProfileList
from service.errors import Conflict, NotFound, ServiceError, Unavailable
from service.protocol import ExitCode, ending

_FOLDER_WAIT_S = 10.0
_MAX_ROWS_BYTES = 32 << 20
"""A thousand networks with their kernels."""


def known_ids(context: Context) -> list[str]:
    """The ids of every target there is."""
    return [profile.id for profile in list_profiles(context.settings.profile_dirs)]


def get_profiles() -> ResponseReturnValue:
    """Every target."""
    query(NoQuery)
    profiles = [profile.to_dict() for profile in list_profiles(current().settings.profile_dirs)]
    for profile in profiles:
        profile["latency_kind"] = profile.pop("latency")["kind"]
    return _tagged({"data": profiles})


def get_profile(profile_id: str) -> ResponseReturnValue:
    """One target, whole."""
    query(NoQuery)
    try:
        return _tagged(load_profile(profile_id, current().settings.profile_dirs).to_dict())
    except UnknownProfile as error:
        raise NotFound(str(error), known=list(error.known)) from error


def post_profile() -> ResponseReturnValue:
    """Keep a target of the user's. An id that is taken stays as it is: jobs may be running for it."""
    query(NoQuery)
    flask.request.max_content_length = _MAX_ROWS_BYTES
    body, context = json_body(ProfileCreate), current()
    try:
        profile = _wanted_profile(body, context)
    except ProfileError as error:  # 409, not 422: the request is well formed, its measurements or figures are not
        raise Conflict(str(error)) from error
    if profile.id in known_ids(context):
        raise Conflict(f"there is a profile {profile.id!r} already; choose another id")
    save_profile(profile, context.settings.profile_dirs[0])
    answer = flask.jsonify(profile.to_dict())
    answer.headers["Location"] = f"/v1/profiles/{profile.id}"
    return answer, 201


def _wanted_profile(body: ProfileCreate, context: Context) -> DeviceProfile:
    if body.profile is not None:
        return parse_profile(body.profile)
    if body.id is None or body.like is None:
        raise Conflict(
            "send `profile`, all of it, or `rows` with `id` and `like`, the known profile whose rules they follow"
        )
    like = load_profile(body.like, context.settings.profile_dirs)
    return profile_from_rows(body.id, body.name or body.id, like, parse_rows(body.rows))


def post_inspect() -> ResponseReturnValue:
    """Dry run."""
    query(NoQuery)
    body, context = json_body(InspectCreate), current()
    model = models.from_ids(body.model, body.model_data)
    for profile_id in body.profiles:
        load_profile(profile_id, context.settings.profile_dirs)
    if not context.inspections.acquire(timeout=_FOLDER_WAIT_S):
        raise Unavailable("as many models are being inspected as this machine can; try again in a moment")
    directory = Path(tempfile.mkdtemp(prefix="inspect-", dir=context.blobs.incoming))
    try:
        spec = json.loads(body.spec().to_json())
        inputs = protocol.Inputs(model=model.file.sha256, model_data=model.data)
        protocol.write_request(directory, spec, context.blobs, inputs, context.settings.max_upload_bytes)
        return flask.jsonify(_inspect(context, directory))
    finally:
        context.inspections.release()
        shutil.rmtree(directory, ignore_errors=True)


def _inspect(context: Context, directory: Path) -> Any:
    settings = context.settings
    command = [*settings.child_command, "inspect", str(directory), "--cache-dir", str(settings.cache_dir)]
    limits = sandbox.Limits(memory_bytes=settings.child_memory_bytes, file_bytes=settings.child_file_bytes)
    child = sandbox.start(command, directory, settings.cache_dir, limits)
    try:
        code = child.wait(settings.inspect_timeout_s)
    except subprocess.TimeoutExpired:
        raise ResourceLimit(
            f"the dry run took more than {settings.inspect_timeout_s:g} s; submit the model as a job instead"
        ) from None
    finally:
        sandbox.kill(child)
    if code == ExitCode.DONE:
        return json.loads((directory / "out" / "inspect.json").read_text(encoding="utf-8"))
    problem = protocol.read_error(directory)
    if code == ExitCode.REFUSED and problem:
        raise EngineRefusalError(problem)
    raise InternalError(f"{FAULT_OF_OURS}: the dry run broke down, {ending(code)}; please report it")


class EngineRefusalError(ServiceError):
    """The engine's own problem, passed on. 409, not 422: the request is well formed, the file it names is not."""

    status = 409

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(str(problem["detail"]))
        self.problem = problem

    def to_dict(self) -> dict[str, Any]:
        """The engine's words."""
        return self.problem


def _tagged(body: dict[str, Any]) -> flask.Response:
    response = flask.jsonify(body)
    response.set_etag(hashlib.sha256(response.get_data()).hexdigest())
    response.make_conditional(flask.request)
    return response


_UNCHANGED = Answer("Unchanged", headers=("ETag",))
_PROFILE = {"type": "object", "required": ["id", "name", "runtime", "dtype", "channel_grid"]}
OPERATIONS = (
    Operation(
        "GET",
        "/v1/profiles",
        "listProfiles",
        "Every target: runtime, data type, channel grid, sparsity rules, provenance, error band",
        get_profiles,
        {200: Answer("Sorted by id", {JSON: ProfileList}, ("ETag",)), 304: _UNCHANGED},
        (422,),
        headers={"If-None-Match": "ETag of the copy you have"},
    ),
    Operation(
        "GET",
        "/v1/profiles/{profile_id}",
        "getProfile",
        "One target with its kernel prices",
        get_profile,
        {200: Answer("The profile", {JSON: _PROFILE}, ("ETag",)), 304: _UNCHANGED},
        (404, 422),
        headers={"If-None-Match": "ETag of the copy you have"},
    ),
    Operation(
        "POST",
        "/v1/inspect",
        "inspect",
        "Dry run: what can be pruned, what cannot and why, predicted and reachable latency",
        post_inspect,
        {200: Answer("What each target makes of the model", {JSON: Inspection})},
        (404, 409, 413, 415),
        body={JSON: InspectCreate},
    ),
    Operation(
        "POST",
        "/v1/profiles",
        "createProfile",
        "Add a target: measured rows, fitted with their held-out error in the answer, or a complete profile",
        post_profile,
        {201: Answer("The profile", {JSON: _PROFILE}, ("Location",))},
        (409, 413, 415),
        body={JSON: ProfileCreate},
    ),
)
