"""What is made once is kept within bounds, whoever asks."""

import copy
import pickle
import random
from concurrent.futures import ThreadPoolExecutor

from focus_detr.deploy.recent import Recent


def test_made_once_and_forgotten_when_others_were_asked_for_since():
    recent, made = Recent(2), []

    def get(key):
        return recent.get(key, lambda: made.append(key) or key)

    for key in "abacabc":  # c drives out b, which drives out c
        get(key)
    assert made == list("abcbc")
    assert len(recent) == 2
    recent.clear()
    assert get("a") == "a" and made == list("abcbca")


def test_bound_is_a_sum_of_sizes():
    recent = Recent(10, size=len)
    for length in (4, 5, 3):
        recent.get(length, lambda length=length: "x" * length)
    assert len(recent) == 2
    assert recent.get(11, lambda: "x" * 11) == "x" * 11  # too large to keep
    assert len(recent) == 0


def test_copies_are_empty():
    recent = Recent(7, size=len)
    recent.get("a", lambda: "a")
    for copied in (copy.deepcopy(recent), pickle.loads(pickle.dumps(recent))):
        assert len(copied) == 0 and (copied.limit, copied.size) == (7, len)


def test_threads_get_what_belongs_to_their_key():
    recent = Recent(3)

    def work(seed):
        draw = random.Random(seed)
        for _ in range(2000):
            key = draw.randrange(6)
            assert recent.get(key, lambda key=key: -key) == -key
            assert len(recent) <= 3

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
