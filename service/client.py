"""A typed client of the REST interface: behind `secateur submit` and its kin, the demo, and the end-to-end tests."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import cattrs
import requests

from search.wire.report import Front
from search.wire.request import JobSpec
from service.errors import ClientError

TERMINAL = frozenset({"succeeded", "failed", "cancelled", "expired"})
_CHUNK_BYTES = 2**20
_TIMEOUT_S = 120.0
_POLL_S = 1.0
_PATIENCE = 60
"""Polls in a row without an answer."""
Json = dict[str, Any]


class Client:
    """Talks to one service.

    Args:
        url: its address, e.g. ``http://127.0.0.1:8080``.
        api_key: where the service wants one.
    """

    def __init__(self, url: str, api_key: str = "") -> None:
        self.url = url.rstrip("/")
        self._session = requests.Session()
        self._session.headers["Accept"] = "application/json"
        if api_key:
            self._session.headers["Authorization"] = f"Bearer {api_key}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def upload(self, path: Path, purpose: str) -> str:
        """Upload a file as it is read; its id."""
        with path.open("rb") as file:
            query = {"purpose": purpose, "filename": path.name}
            return str(self._json("PUT", "/v1/files", params=query, data=file)["id"])

    def submit(
        self,
        spec: JobSpec,
        model: Path,
        dataset: Path | None = None,
        metadata: dict[str, str] | None = None,
        model_data: Mapping[str, Path] | None = None,
    ) -> Json:
        """Upload the files, data files of the model by their locations among them, and start a job; the job."""
        body = json.loads(spec.to_json())
        del body["schema_version"]
        body |= {"model": self.upload(model, "model"), "metadata": metadata or {}}
        if model_data:
            body["model_data"] = self._upload_data(model_data)
        if dataset is not None:
            body["dataset"] = self.upload(dataset, "dataset")
        return self._json("POST", "/v1/jobs", json=body, headers={"Idempotency-Key": str(uuid.uuid4())})

    def inspect(self, spec: JobSpec, model: Path, model_data: Mapping[str, Path] | None = None) -> Json:
        """Dry run of a model."""
        body = json.loads(spec.to_json())
        asked = {"profiles": body["profiles"], "constraints": body["constraints"], "input_shapes": body["input_shapes"]}
        if model_data:
            asked["model_data"] = self._upload_data(model_data)
        return self._json("POST", "/v1/inspect", json={"model": self.upload(model, "model"), **asked})

    def _upload_data(self, model_data: Mapping[str, Path]) -> dict[str, str]:
        return {location: self.upload(path, "model_data") for location, path in model_data.items()}

    def job(self, job_id: str) -> Json:
        """A job."""
        return self._json("GET", f"/v1/jobs/{job_id}")

    def jobs(self, **query: Any) -> Json:
        """A page of jobs, newest first."""
        return self._json("GET", "/v1/jobs", params=query)

    def watch(self, job_id: str) -> Iterator[Json]:
        """The job again and again, each time it changed, to its end; a service that restarts is waited for."""
        tag, status, patience = "", "", _PATIENCE
        while status not in TERMINAL:
            if tag:
                time.sleep(_POLL_S)
            try:
                response = self._send("GET", f"/v1/jobs/{job_id}", headers={"If-None-Match": tag})
            except ClientError as error:
                patience -= 1
                if not (tag and patience and error.problem.get("type") == "service-unavailable"):
                    raise
                continue
            patience = _PATIENCE
            if response.status_code == requests.codes.ok:
                job: Json = response.json()
                tag, status = response.headers["ETag"], str(job["status"])
                yield job

    def events(self, job_id: str, after: int = 0) -> list[Json]:
        """Events numbered above `after`."""
        return list(self._json("GET", f"/v1/jobs/{job_id}/events", params={"after": after})["data"])

    def cancel(self, job_id: str) -> Json:
        """Cancel a job; the job."""
        return self._json("POST", f"/v1/jobs/{job_id}/cancel")

    def delete(self, job_id: str) -> None:
        """Delete a finished job."""
        self._send("DELETE", f"/v1/jobs/{job_id}")

    def front(self, job_id: str) -> dict[str, Front]:
        """Fronts by profile id."""
        return cattrs.structure(self._json("GET", f"/v1/jobs/{job_id}/front"), dict[str, Front])

    def artifacts(self, job_id: str) -> list[Json]:
        """The files of a job."""
        return list(self._json("GET", f"/v1/jobs/{job_id}/artifacts")["data"])

    def download(self, job_id: str, directory: Path, names: tuple[str, ...] = ()) -> list[Path]:
        """Download files of a job, all when `names` is empty, and check their digests; where they are now.

        Raises:
            ClientError: a name that the job does not have, or bytes that are not those announced.
        """
        artifacts = {artifact["name"]: artifact for artifact in self.artifacts(job_id)}
        missing = [name for name in names if name not in artifacts]
        if missing:
            raise ClientError(
                {"type": "not-found", "detail": f"no file {missing[0]!r}; there are {', '.join(artifacts)}"}
            )
        return [self._fetch(artifacts[name], directory) for name in names or artifacts]

    def _fetch(self, artifact: Json, directory: Path) -> Path:
        target: Path = (directory / artifact["name"]).resolve()
        if not target.is_relative_to(directory.resolve()):
            raise ClientError({"type": "internal", "detail": f"the service names a file outside: {artifact['name']!r}"})
        target.parent.mkdir(parents=True, exist_ok=True)
        part, digest = target.with_name(target.name + ".part"), hashlib.sha256()
        with self._send("GET", artifact["url"], stream=True) as response, part.open("wb") as file:
            for chunk in response.iter_content(_CHUNK_BYTES):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != artifact["sha256"]:
            part.unlink()
            raise ClientError({"type": "digest-mismatch", "detail": f"{artifact['name']} arrived damaged; try again"})
        part.replace(target)
        return target

    def _address(self, path: str) -> str:
        """Of a path of ours, or of one that the service gave, which has the prefix of a proxy already."""
        prefix = urlsplit(self.url).path
        return self.url + (path.removeprefix(prefix) if prefix and path.startswith(f"{prefix}/") else path)

    def _json(self, method: str, path: str, **options: Any) -> Json:
        body: Json = self._send(method, path, **options).json()
        return body

    def _send(self, method: str, path: str, **options: Any) -> requests.Response:
        try:
            response = self._session.request(method, self._address(path), timeout=_TIMEOUT_S, **options)
        except requests.RequestException as error:
            detail = (
                f"{self.url} does not answer ({type(error).__name__}); start it with `secateur up` or set SECATEUR_URL"
            )
            raise ClientError({"type": "service-unavailable", "title": "No answer", "detail": detail}) from error
        if not response.ok:
            raise ClientError(_problem(response))
        return response


def _problem(response: requests.Response) -> Json:
    try:
        problem = response.json()
    except ValueError:
        problem = None
    return (
        problem
        if isinstance(problem, dict)
        else {"type": "internal", "detail": f"{response.url}: {response.status_code}"}
    )
