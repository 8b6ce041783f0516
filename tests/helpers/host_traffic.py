"""Counts what would make the host wait for a GPU, on any device."""

from collections import Counter

import torch
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode

# Reads by the host. "numpy" is none: a GPU's tensor has it only after "cpu".
_READS = {"item", "tolist", "cpu", "__bool__", "__int__", "__float__", "__index__"}
# Operators whose result has a size that the device alone knows.
_SIZED_BY_DATA = ("aten.nonzero", "aten.masked_select", "aten._unique2", "aten.equal", "aten.is_nonzero")


class HostTraffic(TorchFunctionMode):
    """Within the block, counts by name: reads by the host, results sized by data, and blocking writes.

    A write is a tensor made of numbers on a device at once, an index that is a list, or a number put where
    an index says: torch waits for the copy. On a CPU the host's own tensors look like the device's, and are
    counted alike.
    """

    def __init__(self):
        super().__init__()
        self.counts = Counter()
        self._dispatch = _Sized(self.counts)

    def __enter__(self):
        self._dispatch.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        return self._dispatch.__exit__(*error)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = (resolve_name(function) or "").rsplit(".", 1)[-1]
        if name in _READS:
            self.counts[name] += 1
        elif name in ("tensor", "as_tensor") and kwargs.get("device") is not None:
            self.counts[f"torch.{name}(device=...)"] += 1
        elif name in ("__getitem__", "__setitem__"):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(each, list) for each in index):
                self.counts["index by a list"] += 1
            by_tensors = any(isinstance(each, torch.Tensor) and each.dim() for each in index)
            if name == "__setitem__" and by_tensors and not isinstance(args[2], torch.Tensor):
                self.counts["number written by an index"] += 1
        return function(*args, **kwargs)

    @property
    def total(self):
        return sum(self.counts.values())


class _Sized(TorchDispatchMode):
    def __init__(self, counts):
        super().__init__()
        self.counts = counts

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function)
        if name.startswith(_SIZED_BY_DATA):
            self.counts[name] += 1
        elif name.startswith(("aten.index.", "aten.index_put")):
            if any(each is not None and each.dtype in (torch.bool, torch.uint8) for each in args[1]):
                self.counts["index by a mask"] += 1
        return function(*args, **(kwargs or {}))
