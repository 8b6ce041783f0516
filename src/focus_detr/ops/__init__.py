"""Multi-scale deformable attention: one function, one dispatcher, several back ends."""

from focus_detr.ops.dispatch import (
    BACKENDS,
    Backend,
    describe_backends,
    multi_scale_deformable_attention,
    multi_scale_deformable_attention_of_projections,
    takes_projections,
    use_backend,
)

__all__ = [
    "BACKENDS",
    "Backend",
    "describe_backends",
    "multi_scale_deformable_attention",
    "multi_scale_deformable_attention_of_projections",
    "takes_projections",
    "use_backend",
]
