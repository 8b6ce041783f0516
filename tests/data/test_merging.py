"""Data sets with other classes."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from focus_detr.data import DetectionDataset, Record
from focus_detr.data.merging import merge_classes
from focus_detr.structures.classes import renamed_among
from focus_detr.structures.instances import Instances


def dataset(objects, crowds=(), names=("car", "truck", "dog")):
    def instances(items):
        boxes = np.array([box for _, box in items], np.float32).reshape(-1, 4)
        labels = np.array([label for label, _ in items], np.int64)
        return Instances(boxes, labels, areas=np.arange(len(items), dtype=float))

    record = Record(Path("a.jpg"), 1, instances(objects), instances(crowds), known_size=(90, 90))
    return DetectionDataset([record], list(names), [10, 20, 30])


A, B = (0, 0, 9, 9), (5, 5, 20, 20)
MERGED = {"car": "vehicle", "truck": "vehicle"}


def test_objects_and_crowds_become_those_of_the_new_class():
    before = dataset([(0, A), (2, B), (1, B)], crowds=[(1, A), (2, B)])
    after = merge_classes(before, MERGED)
    assert (after.class_names, after.category_ids) == (["vehicle"], [10])
    (record,) = after.records
    assert record.labels.tolist() == [0, 0] and record.stated.areas.tolist() == [0, 2]
    assert record.ignored.tolist() == [list(A)]
    assert before.records[0].labels.tolist() == [0, 2, 1]  # itself it stays as it was


def test_one_object_in_several_classes_is_one_and_two_of_one_class_are_two():
    (record,) = merge_classes(dataset([(0, A), (1, A), (0, A), (2, B)]), MERGED).records
    assert record.boxes.tolist() == [list(A)] * 2 and record.stated.areas.tolist() == [0, 2]


def test_the_class_that_has_the_name_already_keeps_its_id():
    renamed = renamed_among({"car": "dog"}, ["car", "truck", "dog"])
    assert renamed == {"car": "dog", "dog": "dog"}
    after = merge_classes(dataset([(0, A), (2, B), (1, A)]), renamed)
    assert (after.class_names, after.category_ids) == (["dog"], [30])
    assert after.records[0].labels.tolist() == [0, 0]


def test_names_may_be_given_with_more_than_there_are():
    after = merge_classes(dataset([(0, A), (1, B)]), MERGED, ["boat", "vehicle"])
    assert after.records[0].labels.tolist() == [1, 1] and after.category_ids == [31, 10]
    assert replace(after.records[0]).labels.tolist() == [1, 1]
