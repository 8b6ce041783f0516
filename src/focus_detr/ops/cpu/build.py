"""Compile the CPU back end: `python -m focus_detr.ops.cpu.build` in a source checkout, setup.py for installs.

Only the standard library is used, so that setup.py can run this file before anything is installed.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parent / "msda.cpp"
# No -ffast-math: it would change how the whole process treats denormals, and lose the NaN checks.
FLAGS = ("-O3", "-std=c++17", "-fPIC", "-shared", "-pthread", "-fno-math-errno", "-fno-trapping-math")


class BuildError(RuntimeError):
    """The library could not be compiled; the message is one line that says why."""


def library_name() -> str:
    """File name of the compiled library on this system."""
    return "_msda" + {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")


def find_compiler() -> list[str]:
    """The C++ compiler: $CXX, else the first of c++, g++, clang++. Raises BuildError if there is none."""
    if os.environ.get("CXX"):
        return shlex.split(os.environ["CXX"])
    for name in ("c++", "g++", "clang++"):
        if path := shutil.which(name):
            return [path]
    raise BuildError("no C++ compiler found (looked at $CXX, c++, g++, clang++)")


def build(folder: Path = SOURCE.parent) -> Path:
    """Compile the library into `folder` and return its path. Raises BuildError."""
    target = folder / library_name()
    folder.mkdir(parents=True, exist_ok=True)
    # Written beside and renamed: a process that has the old library loaded keeps it whole.
    fresh = target.with_name(f"{target.stem}-{os.getpid()}{target.suffix}")
    command = [*find_compiler(), *FLAGS, str(SOURCE), "-o", str(fresh)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildError(f"{command[0]} does not run: {error}") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        raise BuildError(f"{command[0]} failed: {lines[0] if lines else f'exit code {done.returncode}'}")
    fresh.replace(target)
    return target


def main() -> int:
    """Build in place and say where the library went."""
    try:
        print(f"built {build()}")
    except BuildError as error:
        print(f"focus_detr CPU kernel not built: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
