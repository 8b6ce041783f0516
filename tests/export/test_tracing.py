"""Exporters are silenced for who exports, and nothing of it stays."""

import logging
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from focus_detr.export.tracing import quiet

LOGGER = "torch.onnx"  # has handlers of its own, and passes nothing on


@pytest.fixture(params=["", LOGGER])
def heard(request):
    """What reaches a handler."""
    messages = []

    class Handler(logging.Handler):
        def emit(self, record):
            messages.append(record.getMessage())

    handler = Handler()
    logging.getLogger(request.param).addHandler(handler)
    yield messages
    assert not handler.filters
    logging.getLogger(request.param).removeHandler(handler)


def test_remarks_of_this_thread_are_not_heard_and_errors_are(heard, request):
    logger = logging.getLogger(request.node.callspec.params["heard"] or "elsewhere")
    with quiet():
        logger.warning("a remark")
        warnings.warn("a warning", stacklevel=1)  # an error in this test run, were it heard
        logger.error("an error")
        with ThreadPoolExecutor(1) as threads:
            threads.submit(logger.warning, "of another thread").result()
    logger.warning("afterwards")
    assert heard == ["an error", "of another thread", "afterwards"]


def test_what_a_user_has_disabled_stays_disabled(heard):
    logging.disable(logging.ERROR)
    try:
        with quiet():
            pass
        assert logging.root.manager.disable == logging.ERROR
    finally:
        logging.disable(logging.NOTSET)


def test_two_threads_leave_nothing_behind(heard):
    filters, begun = list(warnings.filters), threading.Event()

    def first():
        with quiet():
            begun.set()
            entered.wait(0.1)  # the second waits for its turn: its entry never comes meanwhile

    def second():
        begun.wait(10)
        with quiet():
            entered.set()

    entered = threading.Event()
    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(first), threads.submit(second)]:
            done.result()
    assert list(warnings.filters) == filters
