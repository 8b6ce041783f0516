"""Load the compiled library, once, when first needed."""

import ctypes
from functools import cache

import torch
from torch import Tensor

INSTRUCTION_SETS = ("baseline", "avx2", "avx512")
_VERSION = 2  # of the C interface; msda.cpp holds the same number
_TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float64: 2}

# Tests set this to run the code of a lesser processor; the library never goes above what this one has.
instruction_set: str = INSTRUCTION_SETS[-1]


@cache
def load() -> ctypes.CDLL:
    """The library. Raises OSError, with a line that names the fix, if it is missing or does not fit."""
    # Imported here: `python -m focus_detr.ops.cpu.build` must not find itself imported already.
    from focus_detr.ops.cpu.build import SOURCE, library_name

    path = SOURCE.with_name(library_name())
    fix = "build it with `python -m focus_detr.ops.cpu.build`"
    if not path.is_file():
        raise OSError(f"the compiled library {path.name} is not there; {fix}")
    library = ctypes.CDLL(str(path))
    try:
        version = library.focus_detr_msda_version()
    except AttributeError as error:
        raise OSError(f"{path.name} is not this package's library; {fix}") from error
    if version != _VERSION:
        raise OSError(f"{path.name} has interface {version}, this package needs {_VERSION}; {fix}")
    return library


def best_instruction_set() -> str:
    """The instruction set this processor is given: baseline, avx2 or avx512."""
    best: int = load().focus_detr_msda_instruction_set()
    return INSTRUCTION_SETS[min(best, INSTRUCTION_SETS.index(instruction_set))]


def call(name: str, spatial_shapes: list[int], sizes: tuple[int, ...], tensors: tuple[Tensor, ...]) -> None:
    """Run the library's functions by name on dense CPU tensors; the first gives the storage type."""
    function = getattr(load(), f"focus_detr_msda_{name}")
    status = function(
        ctypes.c_int(_TYPES[tensors[0].dtype]),
        ctypes.c_int(INSTRUCTION_SETS.index(instruction_set)),
        ctypes.c_int(torch.get_num_threads()),
        (ctypes.c_int64 * len(sizes))(*sizes),
        (ctypes.c_int64 * len(spatial_shapes))(*spatial_shapes),
        *(ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors),
    )
    if status != 0:
        raise MemoryError(f"deformable attention ({name}) got no memory for its work space")
