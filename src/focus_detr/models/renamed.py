"""Names that parameters once had: weights saved with them load like any others.

A name that changes gets an entry here, and nothing else has to know the old one.
"""

from __future__ import annotations

from typing import Any

from torch import nn

RENAMED = {
    # Heads stood in decoders; it is the host that has them.
    "host.decoder.class_heads": "host.class_heads",
    "host.decoder.box_heads": "host.box_heads",
}


def rename_old(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Give what ``state`` holds by an old name today's: a hook that modules call before they load it."""
    for key in list(state):
        for old, new in RENAMED.items():
            if key.startswith(f"{prefix}{old}."):
                state[prefix + new + key.removeprefix(prefix + old)] = state.pop(key)
