"""Shares of layers and levels: each is made smaller for as long as that costs little."""

from types import SimpleNamespace

import pytest
import torch

from focus_detr.errors import FocusDetrError
from focus_detr.evaluation.share_calibration import (
    LEAST,
    Outcome,
    Work,
    calibrate_shares,
    check_shares,
    shares_of,
)
from helpers.small_models import batch, image, small_model


def attempts(loss):
    """What an evaluation would say if AP fell by `loss` of the shares of layers, and those of levels."""
    asked = []

    def attempt(options):
        asked.append(options)
        quotas = options.get("level_quotas")
        first = options.get("keep_ratio") if quotas is None else sum(quotas) / len(quotas)
        layers = [first * share for share in options["cascade"]]
        fallen = loss(layers, quotas)
        mean = sum(layers) / len(layers)
        return Outcome(0.6 - fallen, -fallen, -fallen - 0.01, -fallen + 0.01, mean, (0.2, 0.5, 0.8, 1.0))

    attempt.asked = asked
    return attempt


def of_focus(**options):
    return small_model(policy_options=options)


def test_a_layer_that_is_not_needed_is_made_small_and_those_after_it_with_it():
    attempt = attempts(lambda layers, quotas: 0.1 if layers[0] < 0.2 or layers[1] < 0.1 else 0.0)
    found = calibrate_shares(of_focus(), 0.3, attempt, max_drop=0.003, levels=False)
    ratio, cascade = found.options["keep_ratio"], found.options["cascade"]
    assert found.options.keys() == {"keep_ratio", "cascade"} and cascade == sorted(cascade, reverse=True)
    layers = [ratio * share for share in cascade]
    assert 0.2 <= layers[0] < 0.2 / 0.75 and 0.1 <= layers[1] < 0.1 / 0.75 and layers[2] < 0.02
    assert found.mean < found.before == pytest.approx(0.3, abs=1e-3)
    assert [row.taken for row in found.rows].count(False) and found.rows[-1].part == "layer 3"
    assert "layer 1" in found.summary() and found.to_dict()["rows"][0]["part"] == "layer 1"


def test_what_is_all_needed_stays():
    attempt = attempts(lambda layers, quotas: 0.3 - sum(layers) / 3)
    model = of_focus()
    found = calibrate_shares(model, 0.3, attempt, max_drop=0.003, levels=False)
    assert found.options == attempt.asked[0] and not any(row.taken for row in found.rows)
    ratio, cascade = found.options["keep_ratio"], found.options["cascade"]
    assert ratio * sum(cascade) / 3 == pytest.approx(0.3, abs=1e-3)


def test_levels_begin_with_the_shares_that_they_have_and_the_finest_is_the_first():
    attempt = attempts(lambda layers, quotas: 0.1 if quotas and quotas[2] < 0.5 else 0.0)
    found = calibrate_shares(of_focus(), 0.3, attempt, max_drop=0.003, levels=True)
    apart = next(row for row in found.rows if row.part == "levels apart")
    assert apart.taken and apart.share is None
    quotas = found.options["level_quotas"]
    assert LEAST <= quotas[0] < 2 * LEAST and 0.5 <= quotas[2] < 0.8 and quotas[3] < 0.02


def test_levels_that_had_better_compete_do():
    attempt = attempts(lambda layers, quotas: 0.1 if quotas else 0.0)
    found = calibrate_shares(of_focus(), 0.3, attempt, max_drop=0.003, levels=True)
    assert "level_quotas" not in found.options and found.rows[-1].part == "levels apart"


def test_the_salience_policy_has_quotas_of_its_own():
    attempt = attempts(lambda layers, quotas: 0.1 if min(quotas[1:]) < 0.3 else 0.0)
    found = calibrate_shares(small_model(token_policy="salience"), 0.3, attempt, max_drop=0.003, levels=True)
    assert found.options.keys() == {"level_quotas", "cascade"}
    assert found.options["level_quotas"][0] < 0.02 and not any(
        row.part == "levels apart" for row in found.rows
    )


@torch.no_grad()
def test_work_is_what_the_layers_of_each_picture_did():
    model, pictures = of_focus(level_quotas=[0.25, 0.5, 1.0, 1.0]), [image(128, 160), image(96, 64, seed=1)]
    together, alone = Work(), Work()
    together.watch(model(*batch(pictures)), pictures)
    for picture in pictures:
        alone.watch(model(picture[None]), [picture])
    assert together.mean() == pytest.approx(alone.mean()) and together.levels() == pytest.approx(
        alone.levels()
    )
    assert together.levels()[0] == pytest.approx(0.25, abs=0.02) and together.levels()[2] == 1
    assert together.mean() < sum(together.levels()) / 4


@torch.no_grad()
def test_levels_may_have_shares_of_their_own_in_the_focus_policy_and_all_tokens_at_the_whole_budget():
    quotas = [0.25, 0.5, 1.0, 1.0]
    model, picture = of_focus(level_quotas=quotas), image(128, 160)[None]
    salience = small_model(
        token_policy="salience", policy_options={"level_quotas": quotas, "background_embedding": False}
    )
    salience.load_state_dict(model.state_dict())
    for budget in (None, 0.1, 0.5, 1.0):
        one, other = model(picture, budget=budget), salience(picture, budget=budget)
        assert torch.equal(one.logits, other.logits)
    assert set(one.plan.counts) == {one.plan.scores.shape[1]}
    assert not model.encoder.nested and of_focus().encoder.nested


def test_a_model_is_itself_again_afterwards():
    model, picture = of_focus(), image(96, 128)[None]
    model.set_budget(0.4)
    with torch.no_grad():
        before = model(picture)
        with pytest.raises(RuntimeError), shares_of(model, {"keep_ratio": 0.1, "cascade": [1.0, 0.5, 0.5]}):
            assert model(picture).plan.counts[0] < before.plan.counts[0] / 3
            raise RuntimeError
        assert model(picture).plan.counts == before.plan.counts


def test_models_without_such_shares_are_refused():
    with pytest.raises(FocusDetrError, match="token_policy='sparse' have no shares of their own"):
        check_shares(SimpleNamespace(model=small_model(token_policy="sparse")))
    with pytest.raises(FocusDetrError, match="exported file has its shares fixed"):
        check_shares(SimpleNamespace(model=object()))
    with pytest.raises(FocusDetrError, match="levels: .*reactivation"):
        check_shares(SimpleNamespace(model=of_focus(reactivation=True)), levels=True)
    for options, message in (
        ({"level_quotas": [0.5, 1.0]}, r"level_quotas'\]=\[0.5, 1.0\]: needs one share"),
        ({"level_quotas": [0.5, 0.5, 1.0, 1.0], "reactivation": True}, "leave level_quotas out"),
    ):
        with pytest.raises(FocusDetrError, match=message):
            of_focus(**options)
