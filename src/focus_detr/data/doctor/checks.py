"""Every check that a data set is given, in the order of the report. A new one is a function, listed here."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from focus_detr.data.doctor.box_checks import boxes_in_two_classes, elongated_boxes, nearly_doubled_boxes
from focus_detr.data.doctor.class_checks import class_imbalance, similar_names, whole_set_suspicions
from focus_detr.data.doctor.findings import Finding, Subject
from focus_detr.data.doctor.id_checks import file_names_in_two_splits, image_ids_in_two_splits
from focus_detr.data.doctor.loading_check import problems_of_loading
from focus_detr.data.doctor.picture_checks import (
    identical_pictures,
    near_duplicate_pictures,
    unreadable_pictures,
)
from focus_detr.data.doctor.size_checks import odd_sized_pictures

Check = Callable[[Subject], Iterable[Finding]]

CHECKS: tuple[Check, ...] = (
    problems_of_loading,
    unreadable_pictures,
    identical_pictures,
    near_duplicate_pictures,
    image_ids_in_two_splits,
    file_names_in_two_splits,
    nearly_doubled_boxes,
    boxes_in_two_classes,
    elongated_boxes,
    whole_set_suspicions,
    class_imbalance,
    similar_names,
    odd_sized_pictures,
)
