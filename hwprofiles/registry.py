"""Lists and loads profiles: the built-in ones of ``devices/`` and TOML files in folders of the user's, which win."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import cattrs

from hwprofiles import _toml
from hwprofiles.device import DeviceProfile
from hwprofiles.errors import MalformedProfile, UnknownProfile

T = TypeVar("T")


def list_profiles(extra_dirs: Iterable[Path] = ()) -> list[DeviceProfile]:
    """All profiles sorted by id; a file in ``extra_dirs`` replaces the built-in one of the same id.

    Raises:
        MalformedProfile: a file that does not fit.
    """
    return [_first_readable(files) for _, files in sorted(_files(extra_dirs).items())]


def load_profile(profile_id: str, extra_dirs: Iterable[Path] = ()) -> DeviceProfile:
    """The profile of this id.

    Raises:
        UnknownProfile: there is none.
        MalformedProfile: its file does not fit.
    """
    files = _files(extra_dirs)
    if profile_id not in files:
        raise UnknownProfile(profile_id, files)
    return _first_readable(files[profile_id])


def save_profile(profile: DeviceProfile, folder: Path) -> Path:
    """Write ``<folder>/<id>.toml`` in one step, so that a reader never sees half a file; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{profile.id}.toml"
    part = path.with_suffix(".part")
    part.write_text(_toml.dumps(profile.to_dict()), encoding="utf-8")
    part.replace(path)
    return path


def parse_profile(fields: dict[str, Any]) -> DeviceProfile:
    """A profile from the values of a TOML file or a JSON object.

    Raises:
        MalformedProfile: names the first field that does not fit, what was found and what is allowed.
    """
    return parse_as(fields, DeviceProfile, "")


def parse_as(fields: dict[str, Any], kind: type[T], name: str) -> T:
    """A dataclass from the values of a TOML file or a JSON object, ``name`` being what it is called in errors.

    Raises:
        MalformedProfile: names the first field that does not fit, what was found and what is allowed.
    """
    try:
        return _converter.structure(fields, kind)
    except cattrs.BaseValidationError as error:
        raise _first_fault(error, name) from error


def _files(extra_dirs: Iterable[Path]) -> dict[str, list[Traversable]]:
    """The files of every id, the one that wins first, the built-in one last."""
    files: dict[str, list[Traversable]] = {}
    for folder in (resources.files("hwprofiles") / "devices", *(folder for folder in extra_dirs if folder.is_dir())):
        for file in _toml_files(folder):
            files.setdefault(file.name.removesuffix(".toml"), []).insert(0, file)
    return files


def _first_readable(files: Sequence[Traversable]) -> DeviceProfile:
    """The file that wins; a calibration that another release wrote gives way to the stand-in that asks for a new one."""
    try:
        return _read(files[0])
    except MalformedProfile:
        if len(files) == 1 or (built_in := _read(files[-1])).calibrated:
            raise
        return built_in


def _toml_files(folder: Traversable) -> Iterator[Traversable]:
    return (file for file in folder.iterdir() if file.name.endswith(".toml"))


def _read(file: Traversable) -> DeviceProfile:
    try:
        profile = parse_profile(tomllib.loads(file.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MalformedProfile(file.name, str(error), "a TOML file, see hwprofiles/devices/README.md") from error
    if f"{profile.id}.toml" != file.name:
        raise MalformedProfile("id", profile.id, f"the name of its file, {file.name.removesuffix('.toml')!r}")
    return profile


class _WrongTypeError(ValueError):
    def __init__(self, found: object, allowed: str) -> None:
        self.found, self.allowed = found, allowed
        super().__init__(allowed)


def _strict(kind: type, *accepted: type, allowed: str) -> None:
    def hook(value: Any, _: Any) -> Any:
        if isinstance(value, bool) is not (kind is bool) or not isinstance(value, accepted):
            raise _WrongTypeError(value, allowed)
        return kind(value)

    _converter.register_structure_hook(kind, hook)


def _one_of(value: Any, kind: Any) -> Any:
    if value not in get_args(kind):
        raise _WrongTypeError(value, ", ".join(map(str, get_args(kind))))
    return value


_converter = cattrs.Converter(forbid_extra_keys=True)
_converter.register_structure_hook_func(lambda kind: str(get_origin(kind)) == str(Literal), _one_of)
_strict(float, int, float, allowed="a number")
_strict(int, int, allowed="an integer")
_strict(bool, bool, allowed="true or false")
_strict(str, str, allowed="a text")


def _first_fault(error: BaseException, parent: str) -> MalformedProfile:
    """The first leaf of cattrs' tree of errors, with the dotted name of its field."""
    if isinstance(error, BaseExceptionGroup):
        child = error.exceptions[0]
        return _first_fault(child, _dotted(parent, *_steps(child)))
    match error:
        case MalformedProfile():
            return MalformedProfile(_dotted(parent, error.field), error.found, error.allowed)
        case _WrongTypeError():
            return MalformedProfile(parent, error.found, error.allowed)
        case cattrs.ForbiddenExtraKeysError():
            unknown = min(error.extra_fields)
            return MalformedProfile(
                _dotted(parent, unknown), unknown, "only the fields that hwprofiles/devices/README.md lists"
            )
        case KeyError():
            return MalformedProfile(parent, None, "a value; this field is required")
        case _:
            return MalformedProfile(parent or "profile", str(error), "see hwprofiles/devices/README.md")


def _steps(error: BaseException) -> list[str]:
    """The attribute name or list index that cattrs notes on an error."""
    notes = getattr(error, "__notes__", [])
    return [str(note.name) for note in notes if isinstance(note, cattrs.AttributeValidationNote)] + [
        str(note.index) for note in notes if isinstance(note, cattrs.IterableValidationNote)
    ]


def _dotted(*steps: str) -> str:
    return ".".join(step for step in steps if step)
