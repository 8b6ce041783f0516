"""Registries and options refuse what they do not know, by name, and say what would work."""

import dataclasses

import pytest

from focus_detr.errors import FocusDetrError
from focus_detr.models.policies import POLICIES
from focus_detr.models.registry import Registry, read_options
from helpers.small_models import small_config


@dataclasses.dataclass(frozen=True)
class Options:
    quotas: tuple[float, ...] = (0.5, 1.0)
    blocks: int = 3
    rate: float = 0.1
    shared: bool = False


def test_options_are_read():
    assert read_options(Options, {}, "x") == Options()
    assert read_options(Options, {"quotas": [1, 0.5], "rate": 1}, "x") == Options((1, 0.5), rate=1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"block": 2},
            r"policy_options: unknown key 'block' \(did you mean 'blocks'\?\); known: quotas, blocks",
        ),
        ({"blocks": 2.5}, r"policy_options\['blocks'\]=2.5: must be of the kind of its default, 3"),
        ({"blocks": True}, "blocks"),
        ({"shared": 1}, "shared"),
        ({"quotas": 0.5}, "quotas"),
        ({"quotas": ["a"]}, "quotas"),
        ({"rate": "high"}, "rate"),
    ],
)
def test_unusable_options_are_refused(values, message):
    with pytest.raises(FocusDetrError, match=message):
        read_options(Options, values, "policy_options")


def test_a_name_is_given_once():
    registry: Registry[object] = Registry("kind")
    first = registry.register("a")(type("First", (), {}))
    assert registry["a"] is first and registry.names() == ["a"]
    with pytest.raises(FocusDetrError, match="kind 'a' is already registered"):
        registry.register("a")(type("Second", (), {}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"token_policy": "focsu"}, r"token_policy='focsu': not known \(did you mean 'focus'\?\); known: "),
        ({"host": "dyno"}, r"host='dyno': not known \(did you mean 'dino'\?\); known: "),
        (
            {"token_policy": "dense", "policy_options": {"color": 1}},
            "policy_options: unknown key 'color'; known: none",
        ),
        ({"host_options": {"color": 1}}, "host_options: unknown key 'color'"),
    ],
)
def test_the_configuration_refuses_what_is_not_registered(changes, message):
    with pytest.raises(FocusDetrError, match=message):
        small_config(**changes)


def test_a_policy_is_refused_on_a_host_it_does_not_work_with(monkeypatch):
    monkeypatch.setattr(POLICIES["focus"], "single_scale", True)
    with pytest.raises(FocusDetrError, match="'focus' does not work with host='dino'; it works with detr"):
        small_config()
