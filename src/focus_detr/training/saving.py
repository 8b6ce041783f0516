"""Checkpoints: the model, and the states of optimiser, schedule, average, random numbers; written, read.

They hold whole tensors, however the processes share them: a run in shards goes on without, and the reverse.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

from focus_detr.errors import FocusDetrError
from focus_detr.training.checkpoints import checkpoint_folder, keep_newest, put_in_place, way_out
from focus_detr.training.distributed_model import DistributedModel
from focus_detr.training.randomness import RandomNumbers
from focus_detr.training.sharding import gathered, shard_like, shards_like
from focus_detr.training.state import TrainingState


class Stateful(Protocol):
    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any) -> Any: ...


class Checkpointer:
    """Writes and reads the checkpoints of a run.

    Args:
        accelerator: of this process; all processes save and restore together.
        root: folder of the checkpoints.
        model: whose weights they hold.
        parts: file of a checkpoint -> what it holds the state of; None is left out.
        image_processor: kept with the model.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        root: Path,
        model: DistributedModel,
        parts: Mapping[str, Stateful | None],
        image_processor: Any = None,
    ) -> None:
        self.accelerator, self.root, self.model = accelerator, root, model
        self.image_processor = image_processor
        self.parts = {name: part for name, part in parts.items() if part is not None}
        self.random_numbers = RandomNumbers(accelerator.device)
        rank = accelerator.process_index
        self.random_file = f"rng_state_{rank}.pth" if rank else "rng_state.pth"

    def folder(self, state: TrainingState) -> Path:
        return checkpoint_folder(self.root, state.step)

    def save(self, state: TrainingState) -> None:
        """Everything that continuing needs, in one folder that appears only when it is complete."""
        folder, first = self.folder(state), self.accelerator.is_main_process
        if folder.exists():
            return  # a step that fails right after its checkpoint
        writing = folder.with_name(f".{folder.name}.writing")
        if first:
            keep_newest(self.root, 2)  # clears what an earlier run left half written
            writing.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        try:
            self._write(state, writing)
        except Exception:
            shutil.rmtree(writing, ignore_errors=True)  # room for what is there already
            raise
        self.accelerator.wait_for_everyone()
        if first:
            put_in_place(writing, folder, folder.with_name(f".{folder.name}.old"))
            keep_newest(self.root, 2)  # and the one before, in case this one is damaged
        self.accelerator.wait_for_everyone()

    def _write(self, state: TrainingState, folder: Path) -> None:
        first = self.accelerator.is_main_process
        save_state(self.random_numbers.state_dict(), folder / self.random_file)
        model = self.model.whole(averaged=False)
        if first:
            save_model(model, self.image_processor, folder)
        for name, part in self.parts.items():
            whole = gathered(part.state_dict())  # by all processes
            if first:
                save_state(whole, folder / name)
        if first:
            state.save(folder)

    def tidy(self) -> None:
        """A run that has ended needs no checkpoint but its last."""
        if self.accelerator.is_main_process:
            keep_newest(self.root)

    def restore(self, checkpoint: Path, now: TrainingState) -> TrainingState:
        """Take over all states, and return that of the run; ``now`` is that of a run not yet begun.

        Raises:
            FocusDetrError: a file is missing, damaged, or of another run; the message names it.
        """
        state = TrainingState.load(checkpoint)
        if (state.total_steps, state.steps_per_epoch) != (now.total_steps, now.steps_per_epoch):
            raise FocusDetrError(
                f"{checkpoint}: is of a run of {state.total_steps} steps, {state.steps_per_epoch} an epoch; "
                f"with these data and processes it is {now.total_steps}, {now.steps_per_epoch} an epoch. "
                "Resume with the run's own, or start a new run from its last model."
            )
        load_weights(self.model, checkpoint)
        for name, part in self.parts.items():
            read_state(part, checkpoint / name)
        # A process that the run did not have before starts with the numbers of the first.
        of_this_process = checkpoint / self.random_file
        first = checkpoint / "rng_state.pth"
        read_state(self.random_numbers, of_this_process if of_this_process.is_file() else first)
        return state


def save_state(content: Any, file: Path) -> None:
    """Write what `read_state` takes over."""
    with open(file, "wb") as stream:  # by a stream of ours, whose error names what the disk refused
        torch.save(content, stream)


def read_state(part: Stateful, file: Path) -> None:
    """Take over a state as `Checkpointer.save` wrote it.

    Raises:
        FocusDetrError: the file is missing, damaged, or holds the state of something else.
    """
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        current = part.state_dict()
        if not isinstance(part, nn.Module):  # which compares by itself, and knows names of old
            _check_alike(current, state)
        part.load_state_dict(shards_like(state, current))
        if isinstance(part, Optimizer):
            _check_shapes(part)
            _share(part)
    except Exception as error:  # a damaged file may fail in any way
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        if isinstance(error, UnpicklingError):  # torch's own words advise to let it run
            reason = "it holds more than tensors and numbers, which could run code, or is no file of torch"
        raise FocusDetrError(
            f"{file}: missing, damaged, or not of this run ({reason}). {way_out(file.parent)}"
        ) from error


def _check_alike(current: Any, state: Any) -> None:
    """A state that lacks something would be noticed long after loading, or never."""
    if type(current) is not type(state) and not (isinstance(current, Mapping) and isinstance(state, Mapping)):
        raise ValueError(f"holds a {type(state).__name__}, not a {type(current).__name__}")
    if not isinstance(current, Mapping):
        return
    if current.keys() != state.keys():
        names = sorted(map(str, current.keys() ^ state.keys()))
        raise ValueError(f"has other entries: {', '.join(names[:5])}")
    for name, value in current.items():
        if name == "param_groups":
            _check_groups(value, state[name])
        elif name == "base_lrs" and state[name] != value:
            raise ValueError(f"has the learning rates {state[name]}, the run's are {value}")
        elif isinstance(value, int | float | str | Tensor | tuple) and _kind(value) is not _kind(state[name]):
            raise ValueError(f"{name} is a {_kind(state[name]).__name__}, not a {_kind(value).__name__}")


def _kind(value: Any) -> type:
    return Tensor if isinstance(value, Tensor) else type(value)  # in shards or not


def _check_groups(current: list[dict[str, Any]], groups: Any) -> None:
    if not isinstance(groups, list) or len(groups) != len(current):
        raise ValueError("has another number of parameter groups")
    for ours, theirs in zip(current, groups, strict=True):
        if not isinstance(theirs, dict) or ours.keys() != theirs.keys():
            raise ValueError("has parameter groups with other settings")


def _check_shapes(optimizer: Optimizer) -> None:
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.dim() and value.shape != parameter.shape:
                raise ValueError(f"{name} has the shape {tuple(value.shape)}, not {tuple(parameter.shape)}")


def _share(optimizer: Optimizer) -> None:
    """Of the moments of parameters in shards, keep this process's."""
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.dim():
                values[name] = shard_like(value, parameter)


def save_model(model: PreTrainedModel, image_processor: Any, folder: Path) -> None:
    """Write a model folder that ``from_pretrained`` loads."""
    with _quietly():
        model.save_pretrained(folder)
    if image_processor is not None:
        image_processor.save_pretrained(folder)


def load_weights(model: DistributedModel, checkpoint: Path) -> None:
    """The weights of a model folder, into a model of the same class."""
    try:
        with _quietly():
            whole = model.plain_class.from_pretrained(checkpoint).state_dict()
        model.trained.load_state_dict(shards_like(whole, model.trained.state_dict()))
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise FocusDetrError(
            f"{checkpoint / 'model.safetensors'}: missing, damaged, or not of this run ({reason}). "
            f"{way_out(checkpoint)}"
        ) from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Without transformers' own progress bars, which would break into the run's."""
    shown = is_progress_bar_enabled()
    disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            enable_progress_bar()
