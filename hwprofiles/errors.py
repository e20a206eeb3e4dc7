"""What can be wrong with a device profile.

ProfileError (a ValueError)
├── UnknownProfile      no profile of that id; lists those there are
├── MalformedProfile    a field that is missing, unknown or out of range; names field, value and what is allowed
└── UnfitRows           measured rows that no latency model can be fitted to
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
        near = difflib.get_close_matches(profile_id, self.known, n=4)
        hint = f"the nearest are {', '.join(near)}; " if near else ""
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
