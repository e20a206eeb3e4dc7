"""Device profiles, and what one makes of a model before any search."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import flask
from flask.typing import ResponseReturnValue

from hwprofiles.device import DeviceProfile
from hwprofiles.errors import ProfileError, UnknownProfile
from hwprofiles.registry import parse_profile
from search.wire.errors import FAULT_OF_OURS, InternalError, ResourceLimit
from search.wire.report import Inspection
from service import caches, protocol, sandbox, user_profiles
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


def get_profiles() -> ResponseReturnValue:
    """Every target."""
    query(NoQuery)
    context = current()
    profiles = [profile.to_dict() for profile in user_profiles.listed(context.store, context.settings)]
    for profile in profiles:
        profile["latency_kind"] = profile.pop("latency")["kind"]
    return _tagged({"data": profiles})


def get_profile(profile_id: str) -> ResponseReturnValue:
    """One target, whole."""
    query(NoQuery)
    context = current()
    try:
        return _tagged(user_profiles.find(context.store, context.settings, profile_id).to_dict())
    except UnknownProfile as error:
        raise NotFound(str(error), known=list(error.known)) from error


def post_profile() -> ResponseReturnValue:
    """Keep a target of the user's. An id that is taken stays as it is."""
    query(NoQuery)
    flask.request.max_content_length = _MAX_ROWS_BYTES
    body, context = json_body(ProfileCreate), current()
    try:
        profile = _wanted_profile(body, context)
    except ProfileError as error:  # 409, not 422: the request is well formed, its measurements or figures are not
        raise Conflict(str(error)) from error
    most = context.settings.max_profiles if context.settings.keys_required else 0
    user_profiles.add(context.store, context.settings, profile, most)
    answer = flask.jsonify(profile.to_dict())
    answer.headers["Location"] = flask.url_for("getProfile", profile_id=profile.id)
    return answer, 201


def delete_profile(profile_id: str) -> ResponseReturnValue:
    """Forget a target of the user's; jobs that name it keep it."""
    query(NoQuery)
    context = current()
    user_profiles.remove(context.store, context.settings, profile_id)
    return "", 204


def _wanted_profile(body: ProfileCreate, context: Context) -> DeviceProfile:
    if body.profile is not None:
        return user_profiles.as_stated(parse_profile(body.profile))
    if body.id is None or body.like is None:
        raise Conflict(
            "send `profile`, all of it, or `rows` with `id` and `like`, the known profile whose rules they follow"
        )
    like = user_profiles.find(context.store, context.settings, body.like)
    asked = {"id": body.id, "name": body.name or body.id, "like": like.to_dict(), "rows": body.rows}
    with _directory(context, "fit") as directory:
        (directory / "fit.json").write_text(json.dumps(asked), encoding="utf-8")
        try:
            return parse_profile(_run(context, "fit", directory, "profile.json"))
        except EngineRefusalError as refusal:
            raise Conflict(refusal.detail) from refusal


@contextlib.contextmanager
def _directory(context: Context, what: str) -> Iterator[Path]:
    """A folder for a child that a request waits for, when it is its turn.

    Raises:
        Unavailable: too many run.
    """
    if not context.inspections.acquire(timeout=_FOLDER_WAIT_S):
        raise Unavailable("as many models and measurements are looked at as this machine can; try again in a moment")
    directory = Path(tempfile.mkdtemp(prefix=f"{what}-", dir=context.blobs.incoming))
    try:
        yield directory
    finally:
        context.inspections.release()
        shutil.rmtree(directory, ignore_errors=True)


def post_inspect() -> ResponseReturnValue:
    """Dry run."""
    query(NoQuery)
    body, context = json_body(InspectCreate), current()
    model = models.from_ids(body.model, body.model_data)
    own = user_profiles.among(context.store, context.settings, body.profiles)
    with _directory(context, "inspect") as directory:
        spec = json.loads(body.spec().to_json())
        inputs = protocol.Inputs(model=model.file.sha256, model_data=model.data)
        protocol.write_request(directory, spec, context.blobs, inputs, context.settings.max_upload_bytes)
        cache = caches.view(directory, context.settings, context.store.tenant, own)
        found = _run(context, "inspect", directory, "inspect.json", ["--cache-dir", str(cache)])
        caches.keep_calibrations(cache, context.settings, context.store.tenant, own)
        return flask.jsonify(found)


def _run(context: Context, verb: str, directory: Path, result: str, arguments: Sequence[str] = ()) -> Any:
    """Run a verb of the engine while the request waits; the JSON that it left in out/.

    Raises:
        ResourceLimit: it took too long.
        EngineRefusalError: what it refuses.
        InternalError: it broke down.
    """
    settings = context.settings
    command = [*settings.child_command, verb, str(directory), *arguments]
    limits = sandbox.Limits(
        memory_bytes=settings.child_memory_bytes,
        file_bytes=settings.child_file_bytes,
        processes=settings.child_processes,
        network=cast("sandbox.Policy", settings.sandbox_network),
        files=cast("sandbox.Policy", settings.sandbox_files),
    )
    child = sandbox.start(command, directory, caches.tenant_cache(settings, context.store.tenant), limits)
    try:
        code = child.wait(settings.inspect_timeout_s)
    except subprocess.TimeoutExpired:
        raise ResourceLimit(
            f"this took more than {settings.inspect_timeout_s:g} s; submit the model as a job, or send fewer rows"
        ) from None
    finally:
        sandbox.kill(child)
    if code == ExitCode.DONE:
        return json.loads((directory / "out" / result).read_text(encoding="utf-8"))
    problem = protocol.read_error(directory)
    if code == ExitCode.REFUSED and problem:
        raise EngineRefusalError(problem)
    raise InternalError(f"{FAULT_OF_OURS}: the engine broke down, {ending(code)}; please report it")


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
        "DELETE",
        "/v1/profiles/{profile_id}",
        "deleteProfile",
        "Delete a target of your own; jobs that name it keep it",
        delete_profile,
        {204: Answer("Gone")},
        (404, 409, 422),
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
        (409, 413, 415, 429),
        body={JSON: ProfileCreate},
    ),
)
