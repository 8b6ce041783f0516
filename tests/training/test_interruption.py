"""Ctrl-C and SIGTERM end a run after the step under way, with a checkpoint to go on from."""

import signal
import threading

import pytest

from focus_detr.training.interruption import in_worker, interruptions
from helpers.tiny_training import finish, losses, start, start_two


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGINT, 1)])
def test_an_interrupted_run_has_a_checkpoint_and_resumes_exactly(number, code, tiny_data, tmp_path):
    options = {"overrides": {"checkpoint_steps": None, "workers": 1}}
    finish(start(tiny_data, tmp_path / "run", die_at=4, die_of=number, **options), code=code)
    names = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert names == {"checkpoint-3", "checkpoint-5"}  # an epoch's end, and the step under way
    finish(start(tiny_data, tmp_path / "run", resume=True, **options))
    finish(start(tiny_data, tmp_path / "undisturbed", **options))
    assert losses(tmp_path / "run") == losses(tmp_path / "undisturbed")


@pytest.mark.slow
@pytest.mark.parametrize("alone", [None, 0, 1], ids=["both", "the first", "the second"])
def test_a_signal_to_any_process_has_all_of_them_write_one_checkpoint_and_end(alone, tiny_data, tmp_path):
    options = {"noise": 0.0, "overrides": {"checkpoint_steps": None}}
    dying = {"die_at": 4, "die_of": signal.SIGTERM, "die_alone": alone}
    finish(*start_two(tiny_data, tmp_path / "run", **dying, **options), code=128 + signal.SIGTERM)
    names = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert names == {"checkpoint-3", "checkpoint-5"}
    finish(*start_two(tiny_data, tmp_path / "run", resume=True, **options))
    finish(*start_two(tiny_data, tmp_path / "undisturbed", **options))
    assert losses(tmp_path / "run") == losses(tmp_path / "undisturbed")


def test_handlers_are_put_back_and_a_second_signal_ends_at_once():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with interruptions() as interruption:
        signal.raise_signal(signal.SIGTERM)
        assert interruption.signal == signal.SIGTERM
        with pytest.raises(SystemExit, match="143"):
            signal.raise_signal(signal.SIGTERM)
    with interruptions():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_threads_other_than_the_main_one_handle_no_signals():
    seen = []

    def inside():
        with interruptions() as interruption:
            seen.append(interruption.signal)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [None]


@pytest.mark.skipif(not hasattr(signal, "alarm"), reason="no signals to groups of processes here")
def test_a_loaders_process_outlives_a_signal_to_the_whole_group_for_a_while():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        in_worker(0)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert 0 < signal.alarm(0) <= 120  # seconds until the process ends all the same
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
