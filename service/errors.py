"""What the HTTP service refuses, beside the errors of a job in `search.errors`.

SecateurError                      in `search.errors`
└── ServiceError                   carries the HTTP status
    ├── BadRequest                 422 validation-error, the request's fields
    ├── NotFound                   404
    ├── Expired                    410
    ├── Conflict                   409 conflict-state
    ├── IdempotencyConflict        422 the key came with another body
    ├── TooLarge                   413
    ├── InsufficientStorage        507
    ├── Unavailable                503
    └── WorkerLost, OutOfMemory    only ever in a job's `error`
"""

from __future__ import annotations

from typing import ClassVar

from search.errors import SecateurError


class ServiceError(SecateurError):
    """Base class; `status` is the HTTP status, `headers` go into the answer."""

    status: ClassVar[int] = 500
    headers: ClassVar[dict[str, str]] = {}


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


class InsufficientStorage(ServiceError):
    """The disk is full."""

    type, title, status = "insufficient-storage", "Not enough storage", 507
    retryable, headers = True, {"Retry-After": "60"}


class Unavailable(ServiceError):
    """A part of the service is away or busy."""

    type, title, status = "service-unavailable", "Not available now", 503
    retryable, headers = True, {"Retry-After": "2"}


class WorkerLost(ServiceError):
    """Every attempt ended with a dead process."""

    type, title, retryable = "worker-lost", "The process running the job died each time", True


class OutOfMemory(ServiceError):
    """The job asked for more memory than a child may have."""

    type, title = "out-of-memory", "The job ran out of memory"
