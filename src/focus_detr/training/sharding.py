"""Models in shards (FSDP): each process keeps its part of weights, averages and the optimiser's state.

Accelerate's launch environment asks for it. Accelerate itself shards on GPUs alone and copies the model on
CPUs without a word; torch's `fully_shard` does the same on both, so that what GPUs run is what CPUs test.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.utils import parse_flag_from_env, recursively_apply
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from focus_detr.errors import FocusDetrError
from focus_detr.printable import listed

_NAMES = "--fsdp_transformer_layer_cls_to_wrap"


def sharding_plugin() -> FullyShardedDataParallelPlugin | None:
    """What the launch environment says of sharding; None where each process holds the whole model.

    Raises:
        FocusDetrError: it asks for what a run cannot do, and the message says what it can.
    """
    if not parse_flag_from_env("ACCELERATE_USE_FSDP") or not torch.distributed.is_initialized():
        return None
    plugin = FullyShardedDataParallelPlugin()
    if plugin.fsdp_version != 2:
        raise FocusDetrError(
            f"FSDP version {plugin.fsdp_version}: not supported; say --fsdp_version 2, or FSDP_VERSION=2"
        )
    if isinstance(plugin.cpu_offload, CPUOffloadPolicy):
        raise FocusDetrError("--fsdp_offload_params: not supported; leave it out, or start more processes")
    if plugin.activation_checkpointing:
        raise FocusDetrError(
            "--fsdp_activation_checkpointing: is the recipe's to say; leave it out, and --set "
            "gradient_checkpointing=true"
        )
    if plugin.min_num_params is not None:
        raise FocusDetrError(
            "--fsdp_auto_wrap_policy SIZE_BASED_WRAP: not supported; leave it out, or name classes of "
            f"modules (TRANSFORMER_BASED_WRAP, {_NAMES})"
        )
    return plugin


def shard(model: nn.Module, plugin: FullyShardedDataParallelPlugin, accelerator: Accelerator) -> None:
    """Keep this process's part of ``model``; the processes hold the same weights before.

    Weights come together for a forward and backward pass: those of the classes that the launch environment
    names (``--fsdp_transformer_layer_cls_to_wrap``) module by module, all others at once.

    Raises:
        FocusDetrError: a class is named that the model has not.
    """
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    names = plugin.transformer_cls_names_to_wrap or ()
    classes = {type(module).__name__ for module in model.modules()}
    if unknown := [name for name in names if name not in classes]:
        raise FocusDetrError(f"{_NAMES} {','.join(unknown)}: not of this model, which has {listed(classes)}")
    for module in reversed(list(model.modules())):  # what is inside, first
        if type(module).__name__ in names:
            for part in _parts_of(module):
                _make_unit(part, mesh, plugin)
    fully_shard(model, mesh=mesh)


def _parts_of(module: nn.Module) -> list[nn.Module]:
    """A module, and before it those in it that are called from elsewhere, too: an attention whose values are
    projected before its layer is called. Together they are its weights."""
    inner = [each for each in module.modules() if each is not module and _called_besides(each)]
    return [*inner, module]


def _called_besides(module: nn.Module) -> tuple[str, ...]:
    return getattr(module, "called_besides_forward", ())


def _make_unit(module: nn.Module, mesh: DeviceMesh, plugin: FullyShardedDataParallelPlugin) -> None:
    if isinstance(module, FSDPModule):  # of a class that is named, in one that is
        return
    methods = _called_besides(module)
    fully_shard(module, mesh=mesh, reshard_after_forward=plugin.reshard_after_forward)
    for name in methods:
        register_fsdp_forward_method(module, name)


@contextmanager
def sharding_advice() -> Iterator[None]:
    """Where weights that are not together are used within it, say which class not to name."""
    try:
        with warnings.catch_warnings():
            # Nothing changes in place what a module of ours gives, where gradients would go wrong.
            warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
            yield
    except RuntimeError as error:
        plugin = sharding_plugin()
        if plugin is None or "mixed torch.Tensor and DTensor" not in str(error):
            raise
        raise FocusDetrError(
            f"{_NAMES} {','.join(plugin.transformer_cls_names_to_wrap or ())}: weights of one of these are "
            "used outside the forward pass of their module, where they are not together; name others, or none"
        ) from error


def part_of(tensor: Tensor) -> Tensor:
    """What this process holds of ``tensor``; a view."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def together(tensor: Tensor) -> Tensor:
    """All of ``tensor``, which all processes ask for at the same time."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gathered(state: Any) -> Any:
    """A state with its shards put `together`, and these on the CPU."""
    return recursively_apply(lambda each: together(each).cpu() if isinstance(each, DTensor) else each, state)


def shard_like(tensor: Tensor, like: Tensor) -> Tensor:
    """The whole ``tensor``, which all processes have, in shards where ``like`` is."""
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def shards_like(state: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    return {name: shard_like(value, like[name]) if name in like else value for name, value in state.items()}


class Skeleton:
    """A model that takes no memory but its buffers', to be filled with weights of another's.

    Args:
        model: before it is sharded.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        empty = {
            id(parameter): nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
            for parameter in model.parameters()
        }
        self.model = copy.deepcopy(model, dict[int, Any](empty))

    def filled(self, state: Mapping[str, Tensor]) -> PreTrainedModel:
        """A model of the weights of a state dictionary, which it takes over without a copy."""
        model = copy.deepcopy(self.model)
        model.load_state_dict(state, assign=True)
        return model
