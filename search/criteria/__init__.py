"""Importance criteria, one file each. To add one: its file, its line here, its name in `search.wire.request`, its test."""

from search.criteria.activation_rank import activation_rank
from search.criteria.base import Criterion
from search.criteria.bn_scale import bn_scale
from search.criteria.fisher import fisher
from search.criteria.geometric_median import geometric_median
from search.criteria.l1 import l1
from search.criteria.l2 import l2
from search.criteria.obs import obs
from search.criteria.random import random
from search.criteria.redundancy import redundancy
from search.criteria.taylor import taylor

CRITERIA: dict[str, Criterion] = {
    "activation_rank": activation_rank,
    "bn_scale": bn_scale,
    "fisher": fisher,
    "geometric_median": geometric_median,
    "l1": l1,
    "l2": l2,
    "obs": obs,
    "random": random,
    "redundancy": redundancy,
    "taylor": taylor,
}
