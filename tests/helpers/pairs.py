"""Every host with every token policy that it works with; quick tests meet each host and each policy once."""

import pytest

from focus_detr.models.hosts import HOSTS
from focus_detr.models.policies import POLICIES

PAIRS = [
    (host, policy)
    for policy in POLICIES.names()
    for host in HOSTS.names()
    if POLICIES[policy].works_with(host)
]


def _quick():
    """The flagship's host first: with each of its policies; then the others, each with one."""
    hosts, policies = set(), set()
    for host, policy in sorted(PAIRS, key=lambda pair: pair[0] != "dino"):
        if host not in hosts or policy not in policies:
            yield host, policy
        hosts.add(host)
        policies.add(policy)


QUICK = set(_quick())
PARAMETERS = [
    pytest.param(pair, id="-".join(pair), marks=() if pair in QUICK else pytest.mark.slow) for pair in PAIRS
]
