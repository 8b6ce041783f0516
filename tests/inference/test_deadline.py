"""Deadlines: what budgets take, measured once, and the largest that meets a time, picture by picture."""

import json
import logging
import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from focus_detr import FocusDetr
from focus_detr.deploy.deploy import deploy
from focus_detr.errors import FocusDetrError
from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.inference import Predictor
from focus_detr.inference.costs import BUDGETS, CostCurve, Costs, cost_file, facts_of, seconds_of
from focus_detr.inference.deadline import DeadlineKeeper
from focus_detr.structures.budget import Budget
from helpers.fake_detector import FakeModel, picture, plain_processor
from helpers.small_models import small_model

SIZE = (480, 640)


class Machine:
    """A clock that forward passes move on: some seconds of any budget, and some more of a whole one."""

    def __init__(self, fixed=0.04, whole=0.1):
        self.now, self.rate, self.passes = 0.0, 1.0, 0
        self.fixed, self.whole = fixed, whole

    def __call__(self):
        return self.now

    def seconds(self, height, width, budget):
        return self.rate * (self.fixed + self.whole * budget) * height * width / (SIZE[0] * SIZE[1])

    def run(self, height, width, budget):
        self.now += self.seconds(height, width, budget)
        self.passes += 1


@pytest.fixture
def machine():
    return Machine()


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("FOCUS_DETR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(("said", "seconds"), [("50ms", 0.05), (" 0.2 s", 0.2), ("1e2ms", 0.1), (2, 2.0)])
def test_a_deadline_is_a_time_with_its_unit_or_seconds(said, seconds):
    assert seconds_of(said) == pytest.approx(seconds)


@pytest.mark.parametrize("said", ["50", "ms", "-5ms", "0s", "nanms", "infs", "5 min", 0, -1, True, math.inf])
def test_what_is_no_time_is_refused_with_what_would_be(said):
    with pytest.raises(FocusDetrError, match=r"deadline=.*'50ms'"):
        seconds_of(said)


def test_a_curve_gives_the_largest_budget_within_a_time(machine):
    curve = Costs(machine.run, clock=machine).of(SIZE)
    assert curve.at(0.33) == pytest.approx(0.073)
    assert curve.largest_within(0.0731) == 0.33 and curve.largest_within(0.0729) == 0.32
    assert curve.largest_within(9.0) == 1.0 and curve.largest_within(0.0449) is None


@given(st.lists(st.floats(0.01, 10), min_size=6, max_size=6), st.floats(0.001, 20))
def test_whatever_was_measured_more_time_is_no_smaller_budget(seconds, time):
    curve = CostCurve.of(dict(zip(BUDGETS, seconds, strict=True)))
    assert list(curve.seconds) == sorted(curve.seconds)
    found, more = curve.largest_within(time), curve.largest_within(1.1 * time)
    assert found is None or (curve.at(found) <= time * (1 + 1e-9) and more >= found)


def test_a_rising_curve_is_as_it_was_measured():
    assert CostCurve.of({0.1: 1.0, 0.5: 2.0, 1.0: 2.0}).seconds == (1.0, 2.0, 2.0)
    assert CostCurve.of({0.1: 1.0, 0.5: 3.0, 1.0: 2.0}).seconds == (1.0, 2.5, 2.5)


def test_a_size_is_measured_once_for_all_processes(machine, cache):
    facts = {"model": "a", "threads": 1}
    first = Costs(machine.run, facts, machine).of(SIZE)
    passes = machine.passes
    assert Costs(machine.run, facts, machine).of(SIZE) == first and machine.passes == passes
    assert json.loads(cost_file(facts).read_text())["facts"] == facts
    assert [path.suffix for path in (cache / "costs").iterdir() if path.suffix != ".lock"] == [".json"]
    Costs(machine.run, {**facts, "threads": 2}, machine).of(SIZE)
    assert machine.passes == 2 * passes


def test_threads_that_ask_at_once_measure_once(machine):
    facts = {"model": "b"}
    with ThreadPoolExecutor(4) as pool:
        curves = list(pool.map(lambda _: Costs(machine.run, facts, machine).of(SIZE), range(4)))
    assert curves == [curves[0]] * 4 and machine.passes <= 6 * len(BUDGETS)


def test_sizes_of_nearly_one_area_share_a_measurement_in_proportion(machine):
    costs = Costs(machine.run, clock=machine)
    curve, passes = costs.of(SIZE), machine.passes
    assert costs.of((640, 500)).at(1.0) == pytest.approx(curve.at(1.0) * 500 / 480)
    assert machine.passes == passes
    assert costs.of((960, 640)).at(1.0) == pytest.approx(2 * curve.at(1.0)) and machine.passes > passes


@pytest.mark.parametrize("content", ["", "{", "[]", '{"sizes": {"480x640": {"0.1": "fast"}}}', "\0\xff"])
def test_a_file_that_cannot_be_read_is_made_anew(machine, content):
    facts = {"model": "c"}
    cost_file(facts).parent.mkdir(parents=True)
    cost_file(facts).write_text(content)
    Costs(machine.run, facts, machine).of(SIZE)
    assert "480x640" in json.loads(cost_file(facts).read_text())["sizes"]


def test_a_cache_that_cannot_be_written_to_costs_the_file_alone(machine, monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("FOCUS_DETR_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert Costs(machine.run, {"model": "d"}, machine).of(SIZE).at(1.0) == pytest.approx(0.14)
    assert "cannot be kept" in caplog.text


def test_speed_is_a_matter_of_form_shapes_and_threads_and_not_of_what_was_learnt():
    def facts(model, **changes):
        found = Predictor(model, plain_processor())
        return facts_of(found)

    plain = facts(small_model())
    assert plain == facts(small_model(seed=1)) and json.loads(json.dumps(plain)) == plain
    budgeted = small_model()
    budgeted.set_budget(0.2)
    assert plain == facts(budgeted)
    others = [small_model(num_queries=10), small_model(cascade=[1.0, 0.5, 0.3]), deploy(small_model())]
    assert all(facts(other) != plain for other in others)


def stream(machine, keeper, pictures, spent=0.005):
    """Budgets and seconds of pictures that come one by one."""
    found = []
    for _ in range(pictures):
        budget = keeper.choose(SIZE, machine.rate * spent)
        taken = machine.seconds(*SIZE, budget.share)
        keeper.learn(SIZE, budget, taken)
        found.append((budget.share, taken + machine.rate * spent))
    return found


@pytest.mark.parametrize("rate", [0.7, 1.0, 1.4, 1.9])
def test_a_stream_comes_to_its_deadline_and_stays_there(machine, rate):
    keeper = DeadlineKeeper(Costs(machine.run, clock=machine), 0.1, most=1.0)
    assert [budget for budget, _ in stream(machine, keeper, 3)] == pytest.approx([0.55] * 3, abs=0.011)
    machine.rate = rate
    seconds = [taken for _, taken in stream(machine, keeper, 30)]
    assert all(abs(each / 0.1 - 1) < 0.15 for each in seconds[10:])
    # Without swinging: it comes from one side and is never further off than before.
    off = [abs(math.log(each / 0.1)) for each in seconds]
    assert all(later <= before + 0.02 for before, later in zip(off, off[1:], strict=False))


def test_one_slow_picture_changes_little(machine):
    keeper = DeadlineKeeper(Costs(machine.run, clock=machine), 0.1, most=1.0)
    keeper.learn(SIZE, Budget(0.5), 50 * 0.09)
    assert keeper.pace == pytest.approx(2**0.25)


def test_no_budget_exceeds_the_most(machine):
    keeper = DeadlineKeeper(Costs(machine.run, clock=machine), 5.0, most=0.3)
    assert keeper.choose(SIZE, 0.0) == Budget(0.3)


def test_a_deadline_that_cannot_be_met_says_the_smallest_latency(machine):
    keeper = DeadlineKeeper(Costs(machine.run, clock=machine), 0.04, most=1.0)
    with pytest.raises(FocusDetrError, match=r"deadline=40ms: cannot be met here.*480x640 is 50 ms.*0.05"):
        keeper.start(SIZE, 0.005)


def test_a_machine_that_becomes_too_slow_has_the_smallest_budget_and_says_so_once(machine, caplog):
    keeper = DeadlineKeeper(Costs(machine.run, clock=machine), 0.06, most=1.0)
    machine.rate = 3.0
    with caplog.at_level(logging.WARNING):
        budgets = [budget for budget, _ in stream(machine, keeper, 20)]
    assert budgets[-1] == 0.05 and caplog.text.count("not met by the smallest budget") == 1


@pytest.fixture
def folder(tmp_path):
    """A small model that takes budgets, in a folder."""
    model = small_model(dtype=torch.float32)
    model.save_pretrained(tmp_path / "small")
    FocusDetrImageProcessor(size={"shortest_edge": 96, "longest_edge": 128}).save_pretrained(
        tmp_path / "small"
    )
    return tmp_path / "small"


def test_pictures_say_the_budget_they_were_given_and_are_what_it_gives(folder):
    model = FocusDetr(folder, device="cpu")
    pictures = [picture(red=(4, 4, 20, 12)), picture(green=(30, 20, 60, 44))]
    found = model.predict(pictures, deadline="100s", budget=0.7, threshold=0)
    assert [each.budget for each in found] == [0.7, 0.7] and all(0 < each.latency < 100 for each in found)
    assert found[0].to_dict()["budget"] == 0.7 and found[0].to_dict()["latency"] == found[0].latency
    fixed = model.predict(pictures, budget=0.7, threshold=0)
    assert fixed[0].boxes_xyxy.tolist() == found[0].boxes_xyxy.tolist()
    assert "budget" not in fixed[0].to_dict()


def test_time_to_spare_is_no_reason_to_leave_what_the_model_was_trained_for(folder):
    model = FocusDetr(folder, device="cpu")
    share = lambda: model.predict(picture(), deadline=100)[0].budget  # noqa: E731
    config = model.predictor.model.config
    # The cascade's mean of the half that is kept, and one token more.
    assert share() == pytest.approx(0.5 * (1 + 0.6 + 0.3) / 3, abs=0.02)
    config.training_recipe = {"task": "any-budget"}
    assert share() == 1.0
    model.set_budget(0.2)
    assert share() == 0.2


def test_what_cannot_be_asked_with_a_deadline_is_refused_at_once(folder):
    predictor = FocusDetr(folder, device="cpu").predictor
    with pytest.raises(FocusDetrError, match="batch_size=2: with a deadline"):
        predictor.predict(picture(), deadline="50ms", batch_size=2)
    with pytest.raises(FocusDetrError, match="deadline: is for pictures looked at whole"):
        predictor.predict(picture(), deadline="50ms", tile=64)
    with pytest.raises(FocusDetrError, match="deadline='soon'"):
        predictor.predict(picture(), deadline="soon")
    with pytest.raises(FocusDetrError, match="smallest latency measured"):
        list(predictor.predict(picture(), deadline="0.001ms"))
    with pytest.raises(FocusDetrError, match="works on what it was made for"):
        Predictor(FakeModel(), plain_processor()).predict(picture(), deadline="50ms")


def test_the_decoder_layers_of_a_call_are_those_that_are_measured_and_run(folder, cache):
    model = FocusDetr(folder, device="cpu")
    pixels = picture(red=(4, 4, 20, 12))
    (one,) = model.predict(pixels, deadline=100, budget=0.7, threshold=0, decoder_layers=1)
    (fixed,) = model.predict(pixels, budget=0.7, threshold=0, decoder_layers=1)
    (all_layers,) = model.predict(pixels, budget=0.7, threshold=0)
    assert one.boxes_xyxy.tolist() == fixed.boxes_xyxy.tolist() != all_layers.boxes_xyxy.tolist()
    (file,) = (cache / "costs").glob("*.json")
    assert json.loads(file.read_text())["facts"]["decoder_layers"] == 1
    with pytest.raises(FocusDetrError, match="decoder_layers=3: .*from 1 to 2"):
        model.predict(pixels, decoder_layers=3)
    with pytest.raises(FocusDetrError, match="decoder_layers=1: this model runs all the layers"):
        Predictor(FakeModel(), plain_processor()).predict(pixels, decoder_layers=1)
