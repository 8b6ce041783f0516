"""DINO's options of its losses."""

import pytest
import torch

from focus_detr import FocusDetrError
from focus_detr.losses.objective import CLASS_LOSSES
from helpers.small_models import image, labels, small_model


def losses(**options):
    torch.manual_seed(0)
    model = small_model(denoising_queries=0, host_options=options)
    return model(image(96, 128)[None], None, labels([2], [(96, 128)])).loss_dict


def test_each_class_loss_is_another_and_boxes_are_taught_alike():
    each = {name: losses(class_loss=name) for name in CLASS_LOSSES}
    assert len({parts["loss_class"].item() for parts in each.values()}) == len(CLASS_LOSSES)
    assert len({parts["loss_giou"].item() for parts in each.values()}) == 1
    assert each["focal"] == losses()


def test_boxes_far_from_their_objects_are_not_taught_where_an_overlap_is_asked_for():
    parts = losses(least_overlap=1.0)
    assert parts["loss_bbox"] == parts["loss_giou"] == 0 and parts["loss_class"] > 0


def test_an_unknown_class_loss_is_refused_with_those_there_are():
    with pytest.raises(
        FocusDetrError, match="class_loss.*'varifokal': not known .did you mean 'varifocal'.*matchability"
    ):
        small_model(host_options={"class_loss": "varifokal"})
    with pytest.raises(FocusDetrError, match=r"least_overlap.*\[0, 1\]"):
        small_model(host_options={"least_overlap": 1.5})
