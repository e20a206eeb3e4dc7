"""Which removal each runtime turns into speed, from what level, under which conditions, and on what evidence.

    python -m tests.benchmarks.rules

The table is read from the profiles, so it is what the search acts on. What this machine can test is tested by
`tests.benchmarks.zeros` (ONNX Runtime and LiteRT, every pattern) and tests/hwprofiles/test_rules.py (what each profile lets the
search do).
"""

from __future__ import annotations

import collections

from hwprofiles.device import SparsityRule
from hwprofiles.registry import list_profiles
from hwprofiles.rules import sparsity_rule

STRUCTURES = ("channel", "depth", "unstructured", "nm", "block")


def table() -> dict[tuple[str, str], dict[SparsityRule, list[str]]]:
    """(runtime, structure) to its rules, each with the profiles that have it."""
    rules: dict[tuple[str, str], dict[SparsityRule, list[str]]] = collections.defaultdict(dict)
    for profile in list_profiles():
        for structure in STRUCTURES:
            rule = sparsity_rule(structure, profile)  # type: ignore[arg-type]
            rules[profile.runtime, structure].setdefault(rule, []).append(profile.id)
    return rules


def main() -> None:
    """Print one block a runtime and structure."""
    grids: dict[str, set[int]] = collections.defaultdict(set)
    for profile in list_profiles():
        grids[profile.runtime].add(profile.channel_grid)
    for (runtime, structure), rules in sorted(table().items()):
        for rule, profiles in rules.items():
            level = f" from {rule.min_level:.1%} zeros" if rule.executed and rule.min_level else ""
            grid = f" on a grid of {'/'.join(map(str, sorted(grids[runtime])))}" if structure == "channel" else ""
            print(
                f"{runtime:12}{structure:14}{'yes' if rule.executed else 'no'}{level}{grid}  ({len(profiles)} profiles)"
            )
            print(f"    {rule.reason}; source: {rule.source}")
            for condition in rule.conditions:
                print(f"    if {condition}")


if __name__ == "__main__":
    main()
