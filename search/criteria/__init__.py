"""Importance criteria, one file each. To add one: its file, its line here, its test."""

from search.criteria.base import Criterion
from search.criteria.l1 import l1
from search.criteria.l2 import l2
from search.criteria.obs import obs

CRITERIA: dict[str, Criterion] = {"l1": l1, "l2": l2, "obs": obs}
