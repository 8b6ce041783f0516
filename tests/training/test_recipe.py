"""Recipes: strict, complete, and the paper's where they are the paper's."""

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from focus_detr.data import build_transforms
from focus_detr.errors import FocusDetrError
from focus_detr.training.recipe import Recipe, list_recipes, load_recipe, recipe_for
from focus_detr.training.setup import choose_recipe
from focus_detr.zoo.presets import list_presets, preset
from helpers.small_models import small_model


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_is_usable(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert Recipe.from_dict(yaml.safe_load(recipe.to_yaml())) == recipe
    build_transforms(recipe.augmentation, **recipe.augmentation_options)
    preset("focus-detr-lite0", **recipe.model)


def test_recipes_are_few_and_name_no_weight():
    assert len(list_recipes()) <= 16
    for name in list_recipes():
        assert load_recipe(name).backbone_weights == "default"


@pytest.mark.parametrize("name", list_presets())
def test_every_preset_names_its_recipe(name):
    assert recipe_for(name) in list_recipes()


def test_recipes_by_the_name_of_a_preset_still_work_with_a_warning(tmp_path):
    for former, name in (("focus-detr-lite0", "small-model"), ("sparse-deformable-r50", "deformable-50ep")):
        with pytest.warns(FutureWarning, match=f"of '{former}' is '{name}'"):
            assert load_recipe(former) == load_recipe(name)
    (tmp_path / "mine.yaml").write_text("extends: focus-detr-r101-36ep\nepochs: 18\n")
    with pytest.warns(FutureWarning, match="'coco-36ep-two-drops'"):
        assert load_recipe(tmp_path / "mine.yaml").lr_drops == (14, 33.33 / 2)


def test_a_key_with_a_dot_changes_one_entry_and_keeps_the_others():
    base = load_recipe("blood-cells")
    changed = base.replace({"model.token_policy": "salience", "model.policy_options.levels": 2, "epochs": 3})
    assert changed.model == {**base.model, "token_policy": "salience", "policy_options": {"levels": 2}}
    assert "token_policy" not in base.model and changed.epochs == 3
    both = base.replace({"model": {"num_queries": 7}, "model.d_model": 64})
    assert both.model == {"num_queries": 7, "d_model": 64}
    for key in ("epochs.many", "modle.d_model", "model.num_queries.first"):
        with pytest.raises(FocusDetrError, match=rf"overrides: {key}: .* holds others by name"):
            base.replace({key: 1})


def test_a_run_is_named_by_its_preset_or_by_the_recipe_that_was_asked_for():
    chosen, folder = choose_recipe("dino-r50", None, None, False, {"model.token_policy": "salience"})
    assert (chosen.name, folder.name, chosen.model) == ("dino-r50", "dino-r50", {"token_policy": "salience"})
    assert choose_recipe("dino-r50", "small-data", None, False, None)[1].name == "small-data"
    assert choose_recipe("blood-cells", None, None, False, None)[1].name == "small-model"


def test_other_models_have_a_recipe_of_their_size(tmp_path):
    # Its own recipe is for its own data: all of them, without evaluation.
    assert recipe_for("blood-cells") == recipe_for("everyday") == "small-model"
    assert recipe_for(small_model()) == "small-model"
    assert recipe_for("some/folder") == "small-data"
    large, damaged = tmp_path / "large", tmp_path / "damaged"
    for folder, text in ((large, '{"d_model": 256}'), (damaged, "[]")):
        folder.mkdir()
        (folder / "config.json").write_text(text)
        assert recipe_for(folder) == recipe_for(str(folder)) == "small-data"


def test_a_recipe_may_extend_another(tmp_path):
    assert load_recipe("coco-36ep-two-drops").lr_drops == (28, 33.33)
    assert load_recipe("coco-36ep-two-drops").epochs == load_recipe("coco-36ep").epochs == 36
    (tmp_path / "mine.yaml").write_text("extends: coco-12ep\nlearing_rate: 1e-4\n")
    with pytest.raises(FocusDetrError, match="recipe mine.yaml: unknown key 'learing_rate'"):
        load_recipe(tmp_path / "mine.yaml")
    (tmp_path / "mine.yaml").write_text("extends: coco-21ep\n")
    with pytest.raises(FocusDetrError, match="did you mean 'coco-24ep'"):
        load_recipe(tmp_path / "mine.yaml")


def test_a_recipe_that_extends_itself_is_refused(tmp_path):
    for name, base in (("a", "b"), ("b", "a")):
        (tmp_path / f"{name}.yaml").write_text(f"extends: {tmp_path / base}.yaml\n")
    with pytest.raises(FocusDetrError, match="extends itself"):
        load_recipe(tmp_path / "a.yaml")


@pytest.mark.parametrize(("name", "steps", "drop"), [("12", 90_000, 82_500), ("24", 180_000, 150_000)])
def test_coco_recipes_are_the_papers(name, steps, drop):
    recipe = load_recipe(f"coco-{name}ep")
    assert recipe.epochs * 7500 == steps and [each * 7500 for each in recipe.lr_drops] == [drop]
    assert (recipe.learning_rate, recipe.backbone_learning_rate_factor, recipe.weight_decay) == (
        1e-4,
        0.1,
        1e-4,
    )
    assert (recipe.clip_gradient, recipe.batch_size, recipe.ema_decay, recipe.precision) == (
        0.1,
        16,
        0,
        "fp32",
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learing_rate": 1e-4}, "unknown key 'learing_rate' .did you mean 'learning_rate'"),
        ({"zzz": 1}, "unknown key 'zzz'; known: name, epochs"),
        (
            {"precision": "bf61"},
            r"precision='bf61': must be one of fp32, bf16, fp16 \(did you mean 'bf16'\?\)",
        ),
        ({"epochs": 0}, "epochs=0: must be at least 1"),
        ({"epochs": True}, "epochs=True: must be a whole number"),
        ({"epochs": 2.5}, "epochs=2.5: must be a whole number"),
        ({"epochs": None}, "give either epochs or max_steps"),
        ({"epochs": 1, "max_steps": 5}, "give either epochs or max_steps"),
        ({"learning_rate": "fast"}, "learning_rate='fast': must be a number"),
        ({"learning_rate": float("nan")}, "learning_rate=nan: must be a number"),
        ({"learning_rate": -1}, "learning_rate=-1.0: must be positive"),
        ({"ema_decay": 1.0}, r"ema_decay=1.0: must lie in \[0, 1\)"),
        ({"betas": [0.9]}, r"betas=\(0.9,\): must be two numbers"),
        ({"betas": 0.9}, "betas=0.9: must be a list of numbers"),
        ({"lr_drops": [5, 3]}, "must be positive and increasing"),
        ({"batch_size": 6, "gradient_accumulation": 4}, "must divide batch_size=6"),
        ({"gradient_accumulation": 0}, "gradient_accumulation=0: must be at least 1, or auto"),
        ({"gradient_accumulation": "atuo"}, "gradient_accumulation='atuo': must be a whole number, or auto"),
        ({"gradient_accumulation": None}, "gradient_accumulation=None: must be a whole number, or auto"),
        ({"batch_size": "auto"}, "batch_size='auto': .* gradient_accumulation=auto"),
        ({"model": [1]}, "must be a mapping"),
        ({"shortest_edge": 900, "longest_edge": 800}, "must be at least shortest_edge=900"),
        ({"patience": 0}, "must be at least 1, or null"),
        ({"workers": -1}, "must not be negative"),
        ({"warmup_steps": 200}, "warmup_steps=200 is a share of the run now.*write warmup: 0.05"),
        ({"ema_warmup_steps": 500}, "write ema_warmup: 0.05"),
        ({"warmup": 200}, "warmup=200.0: is a share of the run"),
        ({"ema_warmup": 0.0}, "ema_warmup=0.0: is a share of the run"),
        ({"eval_batch_size": 0}, "must be at least 1, or null"),
    ],
)
def test_unusable_values_are_refused(values, message):
    with pytest.raises(FocusDetrError, match=message):
        Recipe.from_dict(values)


VALUES = (
    st.none() | st.booleans() | st.integers(-2, 2000) | st.floats() | st.sampled_from(["", "1e-3", "cosine"])
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(list(Recipe().to_dict())), VALUES))
def test_a_recipe_is_sound_or_refused(values):
    try:
        recipe = Recipe.from_dict(values)
    except FocusDetrError:
        return
    assert Recipe.from_dict(yaml.safe_load(recipe.to_yaml())) == recipe


def test_text_of_yaml_numbers_is_read():
    assert Recipe.from_dict(yaml.safe_load("learning_rate: 1e-4")).learning_rate == 1e-4  # YAML 1.1: text


def test_overrides():
    recipe = load_recipe("coco-12ep")
    assert recipe.replace({"max_steps": 90}).to_dict() | {"lr_drops": None} == {
        **recipe.to_dict(), "epochs": None, "max_steps": 90, "lr_drops": None,
    }  # fmt: skip
    assert recipe.replace({"epochs": 24}).lr_drops == (22,)  # at the same share of training
    assert recipe.replace({"epochs": 24, "lr_drops": [20]}).lr_drops == (20,)
    assert recipe.replace(None) == recipe
    with pytest.raises(FocusDetrError, match="overrides: unknown key 'epoch' .did you mean 'epochs'"):
        recipe.replace({"epoch": 3})


def test_where_recipes_come_from(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("epochs: 3\n")
    assert load_recipe(file).epochs == 3 and load_recipe(file).name == "mine"
    assert load_recipe({"epochs": 3}) == Recipe(epochs=3)
    for content, message in (
        ("- 1", "must be a mapping"),
        ("a: [", "is not YAML"),
        ("epoch: 1", "did you mean 'epochs'"),
    ):
        file.write_text(content)
        with pytest.raises(FocusDetrError, match=f"mine.yaml.*{message}"):
            load_recipe(file)
    with pytest.raises(FocusDetrError, match="'coco-12'.*did you mean 'coco-12ep'"):
        load_recipe("coco-12")
    with pytest.raises(FocusDetrError, match="gone.yaml: cannot be read"):
        load_recipe(tmp_path / "gone.yaml")


def test_edges_are_rounded_where_a_recipe_says_so():
    size = {"shortest_edge": 416, "longest_edge": 416}
    assert load_recipe("everyday").image_size == {**size, "multiple": 32}
    assert load_recipe("everyday").replace({"edge_multiple": 1}).image_size == size
    with pytest.raises(FocusDetrError, match="edge_multiple=0: must be at least 1"):
        load_recipe("everyday").replace({"edge_multiple": 0})
