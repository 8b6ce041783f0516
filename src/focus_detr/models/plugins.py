"""Modules of one's own that register hosts or token policies, named by the models that need them."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from focus_detr.errors import FocusDetrError


def import_plugins(names: Sequence[str]) -> None:
    """Import the modules ``names``, each of which registers a host or a token policy.

    Raises:
        FocusDetrError: there is no such module, it cannot be imported, or it registers nothing.
    """
    from focus_detr.models.hosts import HOSTS
    from focus_detr.models.policies import POLICIES

    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise FocusDetrError(f"plugins: {name!r} needs {error.name!r}; install it") from error
            raise FocusDetrError(
                f"plugins={list(names)}: there is no module {name!r} where Python looks; install it, or add "
                "the folder of its file to PYTHONPATH"
            ) from error
        except Exception as error:
            raise FocusDetrError(f"plugins: {name!r} cannot be imported: {error!r}") from error
        sources = {source for registry in (HOSTS, POLICIES) for source in registry.modules()}
        if not any(f"{source}.".startswith(f"{name}.") for source in sources):
            raise FocusDetrError(
                f"plugins: {name!r} registers nothing; it needs a class under @POLICIES.register(name) or "
                "@HOSTS.register(name)"
            )
