"""Code of the guides, as modules that a model names."""

import re
import sys
from contextlib import contextmanager
from pathlib import Path

from focus_detr.models.heads import HEADS
from focus_detr.models.hosts import HOSTS
from focus_detr.models.policies import POLICIES

DOCS = Path(__file__).parents[2] / "docs"


def python_of(guide):
    """The blocks of Python in a guide."""
    return re.findall(r"```python\n(.*?)```", (DOCS / guide).read_text(encoding="utf-8"), re.DOTALL)


@contextmanager
def module(name, source, folder, monkeypatch):
    """Inside the block there is a module of this name; what it registers is forgotten afterwards."""
    monkeypatch.syspath_prepend(str(folder))
    (folder / f"{name}.py").write_text(source, encoding="utf-8")
    registries = (POLICIES, HOSTS, HEADS)
    known = [dict(registry._classes) for registry in registries]
    try:
        yield name
    finally:
        for registry, classes in zip(registries, known, strict=True):
            registry._classes = classes
        sys.modules.pop(name, None)
