"""What the HTTP service refuses, beside the errors of a job in `search.wire.errors`.

SecateurError                      in `search.wire.errors`
└── ServiceError                   carries the HTTP status
    ├── BadRequest                 422 validation-error, the request's fields
    ├── NotFound                   404
    ├── Expired                    410
    ├── Conflict                   409 conflict-state
    ├── IdempotencyConflict        422 the key came with another body
    ├── TooLarge                   413
    ├── UnknownCoding              415 a compressed body
    ├── WrongTusVersion            412
    ├── UnknownChecksum            400 as tus numbers it
    ├── ChecksumMismatch           460 digest-mismatch, as tus numbers it
    ├── Unauthorized               401 the API key
    ├── QuotaExceeded              429 the tenant has as much as it may
    ├── RateLimited                429 too many requests
    ├── InsufficientStorage        507
    ├── Unavailable                503
    ├── Unprotected                only ever at a start: what is required of the sandbox is not there
    └── WorkerLost, OutOfMemory    only ever in a job's `error`

At the command line also `ClientError`, what a service elsewhere refused, and `LaunchError`, why one cannot start.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from search.wire.errors import SecateurError


class ServiceError(SecateurError):
    """Base class; `status` is the HTTP status, `headers` go into the answer."""

    status: ClassVar[int] = 500
    headers: Mapping[str, str] = MappingProxyType({})


class BadRequest(ServiceError):
    """The request does not fit the contract; ``errors`` lists the fields."""

    type, title, status = "validation-error", "The request is not valid", 422


class NotFound(ServiceError):
    """No such thing, or not yours."""

    type, title, status = "not-found", "Not found", 404


class Expired(ServiceError):
    """It was kept for its time and is gone."""

    type, title, status = "expired", "No longer kept", 410


class Conflict(ServiceError):
    """The job's state does not allow it."""

    type, title, status = "conflict-state", "The state does not allow this", 409


class IdempotencyConflict(ServiceError):
    """The Idempotency-Key was used with another body."""

    type, title, status = "idempotency-conflict", "The key was used with another body", 422


class TooLarge(ServiceError):
    """The upload is above the limit."""

    type, title, status = "too-large", "Too large", 413


class UnknownCoding(ServiceError):
    """The body is compressed."""

    type, title, status = "validation-error", "Bodies are not decoded here", 415
    headers = MappingProxyType({"Accept-Encoding": "identity"})


class WrongTusVersion(ServiceError):
    """The client speaks another version of tus."""

    type, title, status = "validation-error", "Not this version of tus", 412
    headers = MappingProxyType({"Tus-Version": "1.0.0"})


class UnknownChecksum(ServiceError):
    """The client names a checksum that is not taken."""

    type, title, status = "validation-error", "Not a checksum that is taken here", 400


class ChecksumMismatch(ServiceError):
    """The bytes are not those that the client sent."""

    type, title, status, retryable = "digest-mismatch", "The bytes do not fit their checksum", 460, True


class Unauthorized(ServiceError):
    """No API key, or not one that is good."""

    type, title, status = "unauthorized", "An API key is needed", 401
    headers = MappingProxyType({"WWW-Authenticate": 'Bearer realm="secateur"'})


class QuotaExceeded(ServiceError):
    """The tenant has as much as it may."""

    type, title, status = "quota-exceeded", "The quota is used up", 429
    retryable, headers = True, MappingProxyType({"Retry-After": "60"})


class RateLimited(ServiceError):
    """Too many requests in too short a time."""

    type, title, status, retryable = "rate-limited", "Too many requests", 429, True


class InsufficientStorage(ServiceError):
    """The disk is full."""

    type, title, status = "insufficient-storage", "Not enough storage", 507
    retryable, headers = True, MappingProxyType({"Retry-After": "60"})


class Unavailable(ServiceError):
    """A part of the service is away or busy."""

    type, title, status = "service-unavailable", "Not available now", 503
    retryable, headers = True, MappingProxyType({"Retry-After": "2"})


class Unprotected(ServiceError):
    """This machine lacks a protection around jobs that its keeper requires."""

    type, title = "internal", "A required protection is missing"


class WorkerLost(ServiceError):
    """Every attempt ended with a dead process."""

    type, title, retryable = "worker-lost", "The process running the job died each time", True


class OutOfMemory(ServiceError):
    """The job asked for more memory than a child may have."""

    type, title = "out-of-memory", "The job ran out of memory"


class ClientError(Exception):
    """The service refused, or cannot be reached.

    Args:
        problem: the RFC 9457 object.
    """

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(str(problem.get("detail") or problem.get("title") or problem))
        self.problem = problem


class LaunchError(Exception):
    """The service cannot start; the message says what to do."""
