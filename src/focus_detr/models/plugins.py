"""Modules of one's own that register hosts, token policies, heads or backbones, named by models."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from focus_detr.errors import FocusDetrError
from focus_detr.models.registry import Registry
from focus_detr.structures.scoped import Scoped

_trusting = Scoped("trusting", False)
_ask: Scoped[Callable[[Sequence[str]], bool]] = Scoped("ask", lambda names: False)
_named_by_file = Scoped("named_by_file", False)


def trusting_plugins(trusted: bool = True) -> AbstractContextManager[None]:
    """Within it, models read from files may have the modules imported that they name."""
    return _trusting.to(trusted or _trusting.get())


def named_by_file() -> AbstractContextManager[None]:
    """Within it, plugins are named by a file, which may come from anywhere, and not by the caller."""
    return _named_by_file.to(True)


def named_by_a_file() -> bool:
    """Whether what is made is read from a file."""
    return _named_by_file.get()


def asking(ask: Callable[[Sequence[str]], bool]) -> AbstractContextManager[None]:
    """Within it, whoever sits there is asked about modules that nobody trusts yet; True lets them run."""
    return _ask.to(ask)


def refuse_strangers(names: Iterable[str]) -> None:
    """Raise `FocusDetrError` for a module that a file names, and that nobody has imported or trusts."""
    strangers = [name for name in names if name not in sys.modules]
    if strangers and not _trusting.get() and not _ask.get()(strangers):
        raise FocusDetrError(
            f"plugins={strangers}: the model or recipe names these modules, whose code importing them would "
            "run; look at it, then import them yourself, or trust them: --trust-plugins, in Python "
            "trust_plugins=True"
        )


def import_plugins(names: Sequence[str], registries: Sequence[Registry[Any]] = ()) -> None:
    """Import the modules ``names``: each registers a host, policy, head or backbone, or in ``registries``.

    Raises:
        FocusDetrError: there is no such module, it cannot be imported, or it registers nothing; or a file
            names it and nobody has imported or trusts it.
    """
    from focus_detr.models.backbones.catalogue import BACKBONES
    from focus_detr.models.heads import HEADS
    from focus_detr.models.hosts import HOSTS
    from focus_detr.models.policies import POLICIES

    if _named_by_file.get():
        refuse_strangers(names)
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
        everywhere: tuple[Any, ...] = (HOSTS, POLICIES, HEADS, BACKBONES, *registries)
        sources = {source for registry in everywhere for source in registry.modules()}
        if not any(f"{source}.".startswith(f"{name}.") for source in sources):
            raise FocusDetrError(
                f"plugins: {name!r} registers nothing; it needs a class under @POLICIES.register(name), "
                "@HOSTS.register(name) or @HEADS.register(name), BACKBONES.register(entry), or in a recipe "
                "@TASKS.register(name)"
            )
