"""What can be wrong with a device profile.

ProfileError (a ValueError)
├── UnknownProfile      no profile of that id; lists those there are
├── MalformedProfile    a field that is missing, unknown or out of range; names field, value and what is allowed
└── UnfitRows           measured rows that no latency model can be fitted to
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

MOST_NAMED = 3


def has_words(asked: str, profile_id: str) -> bool:
    """Whether an id has every word and number of what was asked for."""
    words = re.findall(r"[a-z]+|\d+", asked.lower())
    return bool(words) and all(word in profile_id for word in words)


def nearest(asked: str, known: Iterable[str]) -> tuple[list[str], int]:
    """Ids that have every word of what was asked for, else those that look like it: the first few, and how many more there are.

    Example:
        >>> nearest("Pixel 4", ["pixel4-1small-tflite-fp32", "tpu-v5e"])
        (['pixel4-1small-tflite-fp32'], 0)
    """
    found = [each for each in sorted(known) if has_words(asked, each)]
    found = found or difflib.get_close_matches(asked.lower(), sorted(known), n=MOST_NAMED)
    return found[:MOST_NAMED], len(found[MOST_NAMED:])


class ProfileError(ValueError):
    """Base class."""


class UnknownProfile(ProfileError):
    """No profile has this id.

    Args:
        profile_id: the id that was asked for.
        known: the ids that exist.
    """

    def __init__(self, profile_id: str, known: Iterable[str]) -> None:
        self.profile_id = profile_id
        self.known = tuple(sorted(known))
        near, more = nearest(profile_id, self.known)
        hint = f"the nearest are {', '.join(near)}{f' and {more} more' if more else ''}; " if near else ""
        super().__init__(
            f"no device profile is called {profile_id!r}; {hint}"
            f"`secateur profiles` or GET /v1/profiles lists all {len(self.known)}"
        )


class MalformedProfile(ProfileError):
    """A field of a profile does not fit.

    Args:
        field: dotted name, e.g. ``latency.tiles.c_out``.
        found: the value that was there.
        allowed: what may stand there, in words.
    """

    def __init__(self, field: str, found: object, allowed: str) -> None:
        self.field = field
        self.found = found
        self.allowed = allowed
        super().__init__(f"device profile: `{field}` is {found!r}; allowed: {allowed}")


class UnfitRows(ProfileError):
    """Measured rows are too few or contradict themselves."""
