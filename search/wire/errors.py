"""Everything that can be wrong with a job, as one small tree.

SecateurError                      has a stable ``type``; becomes RFC 9457 problem+json at the HTTP border
├── InvalidModel                   not an ONNX model, or one that contradicts itself
│   ├── UnsupportedOperator        an operator that no runtime here knows
│   ├── UnsupportedOpset           an operator set outside the range we read
│   └── ExternalDataRefused        weights that live outside the uploaded file
├── InvalidDataset                 not an .npz we may open, or arrays we cannot use
│   └── DatasetShapeMismatch       good arrays, but not the model's inputs
├── InvalidProfile                 a device profile that is unknown or malformed
├── InvalidRequest                 a request that contradicts itself
├── InfeasibleConstraints          no candidate meets the objective; carries the best reachable
├── ResourceLimit                  would need more memory, operations or time than is allowed
├── DeadlineExceeded               the deadline came before the first result
└── InternalError                  our fault: a law that must hold did not
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

_ADDRESS = re.compile(r" (?:object )?at 0x[0-9a-f]+", re.IGNORECASE)
FAULT_OF_OURS = "this is a fault of secateur, not of your file"


def without_addresses(text: str) -> str:
    """The same without the addresses that Python puts into the names of objects: they say nothing, and differ in every run.

    Example:
        >>> without_addresses("no rule for <Flow object at 0x7f1c2b> of `conv1`")
        'no rule for <Flow> of `conv1`'
    """
    return _ADDRESS.sub("", text)


class SecateurError(Exception):
    """Base class.

    Args:
        detail: one sentence for a person: what was found, what is allowed, what to do.
        **fields: JSON-able facts for a program, e.g. ``node="conv3"``; they become members of the problem object.
    """

    type: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str, **fields: Any) -> None:
        self.detail = without_addresses(detail)
        super().__init__(self.detail)
        self.fields = fields

    def to_dict(self) -> dict[str, Any]:
        """The problem object: ``type``, ``title``, ``detail``, ``retryable`` and the fields."""
        return {
            "type": self.type,
            "title": self.title,
            "detail": self.detail,
            "retryable": self.retryable,
            **self.fields,
        }


class InvalidModel(SecateurError):
    """The file is not an ONNX model that can be run."""

    type = "invalid-model"
    title = "The model is not usable"


class UnsupportedOperator(InvalidModel):
    """No runtime here knows the operator, so accuracy cannot be measured."""

    type = "unsupported-operator"
    title = "The model has an operator that no runtime here knows"


class UnsupportedOpset(InvalidModel):
    """The operator set is older or newer than what we read."""

    type = "unsupported-opset"
    title = "The model's operator set is not supported"


class ExternalDataRefused(InvalidModel):
    """The model refers to files beside it; an upload is one file."""

    type = "external-data-refused"
    title = "The model keeps weights outside its file"


class InvalidDataset(SecateurError):
    """The data set cannot be opened or used."""

    type = "invalid-dataset"
    title = "The data set is not usable"


class DatasetShapeMismatch(InvalidDataset):
    """The arrays do not fit the model's inputs."""

    type = "dataset-shape-mismatch"
    title = "The data set does not fit the model"


class InvalidProfile(SecateurError):
    """A device profile is unknown or malformed."""

    type = "validation-error"
    title = "The device profile is not usable"


class InvalidRequest(SecateurError):
    """The request contradicts itself."""

    type = "validation-error"
    title = "The request is not valid"


class InfeasibleConstraints(SecateurError):
    """Nothing that the search can reach meets the objective; ``best_reachable`` says what it can."""

    type = "infeasible-constraints"
    title = "The target cannot be reached"


class ResourceLimit(SecateurError):
    """The model or data set needs more than is allowed."""

    type = "resource-limit"
    title = "The job needs more than is allowed"


class DeadlineExceeded(SecateurError):
    """The deadline came before the first result."""

    type = "deadline-exceeded"
    title = "The deadline came before the first result"


class InternalError(SecateurError):
    """A law that must hold did not; the message says which."""

    @classmethod
    def behind(cls, error: BaseException) -> InternalError:
        """For an error that nobody expected."""
        found = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        return cls(f"{FAULT_OF_OURS} ({type(error).__name__}: {found}); please report it with the trace")
