"""What of the slow tests `make test-turn` runs."""

from pathlib import Path
from types import SimpleNamespace

import pytest

import conftest


def item(number, slow):
    mark = {"slow": object()} if slow else {}
    return SimpleNamespace(path=Path(f"test_{number // 3}.py"), get_closest_marker=mark.get, number=number)


@pytest.mark.parametrize("files", [1, 3, 4, 9])
def test_in_as_many_turns_as_there_are_shares_every_slow_test_is_run_once(files):
    run, left = [], []
    for turn in range(5, 9):
        items = [item(number, slow=number % 3 > 0) for number in range(3 * files)]
        hook = SimpleNamespace(pytest_deselected=lambda items: left.extend(items))
        config = SimpleNamespace(getoption=lambda name, turn=turn: f"{turn}/4", hook=hook)
        conftest.pytest_collection_modifyitems(config, items)
        assert [each.number for each in items if each.number % 3 == 0] == list(range(0, 3 * files, 3))
        run += [each.number for each in items if each.number % 3]
    slow = [number for number in range(3 * files) if number % 3]
    assert sorted(run) == slow and len(left) == 3 * len(slow)


def test_without_a_share_all_are_run():
    items = [item(1, slow=True)]
    conftest.pytest_collection_modifyitems(SimpleNamespace(getoption=lambda name: None), items)
    assert len(items) == 1
