"""Doctor: what is wrong with this machine, or with a data set, and what would mend it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from focus_detr.doctor.environment import examine_environment as examine_environment
    from focus_detr.doctor.page import doctor_html as doctor_html
    from focus_detr.doctor.run import examine_data as examine_data

# Imported when asked for: of the environment, the point is what cannot be imported.
_HOME = {"doctor_html": "page", "examine_data": "run", "examine_environment": "environment"}

__all__ = ["doctor_html", "examine_data", "examine_environment"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'focus_detr.doctor' has no attribute {name!r}")
    return getattr(importlib.import_module(f"focus_detr.doctor.{_HOME[name]}"), name)
