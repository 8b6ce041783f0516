"""Token policies: what the encoder does to which tokens. One file each; `POLICIES` knows them by name."""

# Imported for their registration.
from focus_detr.models.policies import (  # noqa: F401, I001
    dense,
    focus,
    full_attention,
    interleaved,
    poll_and_pool,
    salience,
    sparse,
)
from focus_detr.models.policies.base import POLICIES, TokenPolicy

__all__ = ["POLICIES", "TokenPolicy"]
