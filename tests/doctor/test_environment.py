"""What a machine lacks is said with the command that mends it."""

from __future__ import annotations

import importlib.metadata

import pytest

from focus_detr.doctor import environment as module
from focus_detr.doctor import examine_environment


def _stated(monkeypatch: pytest.MonkeyPatch, *requirements: str) -> None:
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: list(requirements))


def test_missing_and_old_packages_are_errors_and_absent_extras_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    _stated(
        monkeypatch,
        "numpy>=1.26",
        "pillow>=900",
        "no-such-package>=2",
        'no-such-server>=1; extra == "serve"',
        'numpy>=900; extra == "export"',
        'no-such-tester; extra == "dev"',
        'no-such-thing; sys_platform == "plan9"',
    )
    found = {(each.kind, each.severity, each.file): each for each in module._requirements()}
    assert set(found) == {
        ("version", "error", "pillow"),
        ("missing-package", "error", "no-such-package"),
        ("version", "warning", "numpy"),
        ("extra", "note", "serve"),
    }
    assert found["missing-package", "error", "no-such-package"].fix == 'pip install "no-such-package>=2"'
    assert found["extra", "note", "serve"].fix == 'pip install "focus-detr[serve]"'


def test_a_gpu_that_is_not_used_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/nvidia-smi")
    assert [each.kind for each in module._accelerator(False, None)] == ["gpu"]
    assert "CUDA 13.0" in next(iter(module._accelerator(False, "13.0"))).message
    assert not list(module._accelerator(True, "13.0"))
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert not list(module._accelerator(False, None))


def test_a_back_end_that_cannot_be_had_comes_with_its_command() -> None:
    back_ends = [
        {"name": "cpu", "active": False, "available": False, "reason": "is not there; build it with `x`"}
    ]
    (said,) = module._back_ends(back_ends, "cpu")
    assert said.severity == "warning" and said.fix == "build it with `x`"
    assert not list(module._back_ends([{**back_ends[0], "available": True}], "cpu"))


@pytest.mark.parametrize(
    ("threads", "cores", "kinds"), [(8, 2, ["warning"]), (1, 4, ["note"]), (2, 4, []), (1, 1, [])]
)
def test_threads_that_do_not_fit_the_cores_are_said(threads: int, cores: int, kinds: list[str]) -> None:
    found = list(module._threads(threads, cores))
    assert [each.severity for each in found] == kinds
    assert all(each.fix == f"export OMP_NUM_THREADS={cores}" for each in found)


def test_threads_that_spin_beside_other_work_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    (said,) = module._other_work(2, 2, 4.5)
    assert said.severity == "warning" and said.fix == "export OMP_WAIT_POLICY=passive"
    assert not list(module._other_work(1, 2, 4.5)) and not list(module._other_work(2, 2, 1.0))
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    assert not list(module._other_work(2, 2, 4.5))


def test_a_cache_without_room_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    free = {"bytes": 10**9}
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), {"free": free["bytes"]}))
    assert [each.kind for each in module._room()] == ["disk"]
    free["bytes"] = 10**11
    assert not list(module._room())


def test_this_machine_can_be_described() -> None:
    found, problems = examine_environment("cpu")
    assert found["device"] == "cpu" and found["cores"] >= 1
    order = [("error", "warning", "note").index(each.severity) for each in problems]
    assert order == sorted(order)
