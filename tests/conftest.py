"""Fixtures that tests of several parts share."""

import ctypes
import gc

import pytest
from hypothesis import settings

# Speed is for benchmarks; a busy machine must not fail a property, nor a seed of its own.
settings.register_profile("quiet", deadline=None, derandomize=True)
settings.load_profile("quiet")


try:
    _trim = ctypes.CDLL("libc.so.6").malloc_trim
except (OSError, AttributeError):  # glibc alone has it
    _trim = None


def pytest_addoption(parser):
    help = "leave out the slow tests but those of each Nth of their files, from the Kth on"
    parser.addoption("--slow-share", metavar="K/N", help=help)


def pytest_collection_modifyitems(config, items):
    if not (share := config.getoption("slow_share")):
        return
    turn, shares = map(int, share.split("/"))
    slow = [item for item in items if item.get_closest_marker("slow")]
    files = sorted({item.path for item in slow})[turn % shares :: shares]
    left_out = [item for item in slow if item.path not in files]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


_SMALL = 1.25e9


@pytest.fixture(scope="session")
def kept_memory():
    """Bytes that the process kept when its memory was last given back, in a list, to be said anew."""
    return [_SMALL]


@pytest.fixture(autouse=True)
def memory_given_back(kept_memory):
    """What a large test took is the system's again: small machines kill a worker that grows to gigabytes.

    Not after every test of a process that has grown: to look through all of its objects takes a second.
    """
    yield
    if _trim is not None and _resident() > kept_memory[0] + 0.25e9:
        gc.collect()
        _trim(0)
        kept_memory[0] = max(_SMALL, _resident())


def _resident():
    # Bytes, by Linux's /proc; as if it were little elsewhere.
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096
    except OSError:
        return 0


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Folder of a very small Focus-DETR with random weights and the classes cell and dot."""
    import torch

    from focus_detr import FocusDetrConfig, FocusDetrForObjectDetection, FocusDetrImageProcessor

    folder = tmp_path_factory.mktemp("tiny")
    config = FocusDetrConfig.from_preset(
        "focus-detr-lite0",
        id2label={0: "cell", 1: "dot"},
        label2id={"cell": 0, "dot": 1},
        d_model=32,
        attention_heads=4,
        encoder_layers=1,
        decoder_layers=1,
        cascade=[0.5],
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_queries=8,
        num_detections=8,
        num_fine_tokens=8,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        FocusDetrForObjectDetection(config).save_pretrained(folder)
    FocusDetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(folder)
    return folder
