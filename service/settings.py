"""Where the service keeps its data, where it listens, and its limits. Frozen; handed to whoever needs it."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import platformdirs

_PREFIX = "SECATEUR_"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be set; every field is also the environment variable ``SECATEUR_<FIELD>``.

    ``REDIS_URL`` and ``DATABASE_URL`` are read without the prefix too, as hosting platforms set them so.
    """

    data_dir: Path = dataclasses.field(default_factory=lambda: platformdirs.user_data_path("secateur"))
    """Rows, uploads, job directories, artifacts and the private broker."""
    cache_dir: Path = dataclasses.field(default_factory=lambda: platformdirs.user_cache_path("secateur"))
    """Calibrated profiles and measurements: facts about this machine, shared with the command line."""
    host: str = "127.0.0.1"
    port: int = 8080
    trusted_hosts: tuple[str, ...] = (*LOOPBACK[:2], "[::1]")
    """Names that a request's Host header may carry; a page elsewhere cannot rebind its name to this service."""
    redis_url: str = ""
    """Broker; empty means the embedded one."""
    database_url: str = ""
    """SQLAlchemy URL; empty means SQLite in ``data_dir``."""
    storage_url: str = ""
    """Where uploads and results are kept: ``s3://bucket/prefix``, with the standard AWS variables; empty means ``data_dir``."""
    api_keys: str = "auto"
    """``on``, ``off`` (on loopback only), or ``auto``: on wherever others can reach the address."""
    requests_per_minute: int = 1200
    """Most requests a tenant may send, where API keys are on; 0 for no limit."""
    max_unfinished_jobs: int = 1000
    """Most jobs of a tenant that wait or run; 0 for no limit."""
    max_stored_bytes: int = 100 * 2**30
    """Most bytes of uploads of a tenant; 0 for no limit."""
    max_profiles: int = 100
    """Most targets of a tenant's own; 0 for no limit."""
    webhooks: str = "off"
    """``on`` lets a job name a URL that is told its end."""
    webhook_secret: str = ""
    """``whsec_`` and base64: signs webhook messages; needed when they are on."""
    log_format: str = "text"
    """``json`` for one object a line."""
    web_threads: int = 16
    """Requests that are worked on at once; those that wait for a client or for a change hold none."""
    web_workers: int = 1
    """Processes of the web server."""
    max_watchers: int = 2000
    """Event streams and long polls that a web process keeps open; the next one is told to come again."""
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    """Addresses or networks whose X-Forwarded-For, -Proto and -Prefix are believed."""
    max_upload_bytes: int = 2 * 2**30
    max_request_bytes: int = 2**20
    max_waiting_inspections: int = 2
    inspect_timeout_s: float = 60.0
    max_attempts: int = 3
    lease_s: float = 45.0
    """A worker that has not been heard of for so long has lost its job."""
    sweep_s: float = 5.0
    """Pause between two rounds of the reconciler."""
    republish_s: float = 10.0
    """A queued job that no worker took for so long is announced again."""
    poll_s: float = 0.25
    """How often a worker looks at its child, its events and the cancel flag."""
    cancel_grace_s: float = 5.0
    """Between SIGTERM and SIGKILL."""
    retention_days: float = 30.0
    """Files of a finished job are kept so long."""
    file_retention_days: float = 30.0
    """Uploads are kept so long after their last use."""
    upload_hours: float = 24.0
    """A resumable upload may take so long."""
    child_memory_bytes: int = 0
    """Most private memory a child may have; 0 means all of the machine's."""
    child_file_bytes: int = 8 * 2**30
    """Largest file a child may write."""
    child_processes: int = 4096
    """Most processes and threads of all that run as the child's user; 0 for no limit. Not for root."""
    child_niceness: int = 10
    """By how much a job's child stands back for web server, worker and broker where they share cores; 0 to 19."""
    sandbox_network: str = "prefer"
    """``require`` starts no worker where a job would have a network; ``prefer`` goes on, and `/readyz` says so."""
    sandbox_files: str = "prefer"
    """The same for a fence of Landlock around a job's files; ``off`` leaves it away."""
    child_command: tuple[str, ...] = (sys.executable, "-m", "search")
    """The engine; tests put a quick child in its place that speaks the same protocol."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Settings from environment variables; `overrides` that are not None win.

        Raises:
            ValueError: a variable cannot be read as its field's type; names the variable.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {
            key: environ[name]
            for key, name in (("redis_url", "REDIS_URL"), ("database_url", "DATABASE_URL"))
            if name in environ
        }
        for field in dataclasses.fields(cls):
            name = _PREFIX + field.name.upper()
            if name in environ:
                values[field.name] = _parse(name, environ[name], str(field.type))
        return cls(**{**values, **{key: value for key, value in overrides.items() if value is not None}})

    def to_env(self) -> dict[str, str]:
        """The variables that make `from_env` return equal settings in another process."""
        return {_PREFIX + field.name.upper(): _print(getattr(self, field.name)) for field in dataclasses.fields(self)}

    def __post_init__(self) -> None:
        """Refuse words that mean nothing, and an open service that others can reach."""
        for name, allowed in (
            ("api_keys", ("auto", "on", "off")),
            ("webhooks", ("on", "off")),
            ("log_format", ("text", "json")),
            ("sandbox_network", ("prefer", "require")),
            ("sandbox_files", ("off", "prefer", "require")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{_PREFIX}{name.upper()}={getattr(self, name)!r}; it is one of {', '.join(allowed)}")
        if self.api_keys == "off" and self.host not in LOOPBACK:
            raise ValueError(
                f"{_PREFIX}API_KEYS=off with host {self.host}: only {', '.join(LOOPBACK)} may be open; "
                "leave it at auto, and make a key with `secateur keys create`"
            )
        if self.webhooks == "on" and not self.webhook_secret.startswith("whsec_"):
            raise ValueError(f"{_PREFIX}WEBHOOKS=on needs {_PREFIX}WEBHOOK_SECRET=whsec_... to sign the messages with")

    @property
    def keys_required(self) -> bool:
        """Whether a request needs an API key."""
        return self.api_keys == "on" or (self.api_keys == "auto" and self.host not in LOOPBACK)

    @property
    def quotas(self) -> tuple[int, int]:
        """Unfinished jobs and stored bytes of a tenant; 0 for no limit: without keys there is one, and it owns the machine."""
        return (self.max_unfinished_jobs, self.max_stored_bytes) if self.keys_required else (0, 0)

    @property
    def database(self) -> str:
        """The SQLAlchemy URL in use."""
        return self.database_url or f"sqlite:///{self.data_dir / 'secateur.db'}"

    @property
    def jobs_dir(self) -> Path:
        """Job directories of running jobs; kept between attempts so that the next one resumes."""
        return self.data_dir / "jobs"

    @property
    def profile_dirs(self) -> tuple[Path, ...]:
        """Folders of calibrated and user profiles, searched before the built-in ones."""
        return (self.cache_dir / "profiles",)


def _parse(name: str, text: str, kind: str) -> Any:
    try:
        if kind.startswith("tuple"):
            return tuple(str(item) for item in json.loads(text))
        return {"Path": Path, "int": int, "float": float}.get(kind, str)(text)
    except ValueError as error:
        wanted = "a JSON list of strings" if kind.startswith("tuple") else kind
        raise ValueError(f"{name}={text!r} is not {wanted}") from error


def _print(value: Any) -> str:
    return json.dumps(value) if isinstance(value, tuple) else str(value)
