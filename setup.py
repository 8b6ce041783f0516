"""The one step pyproject.toml cannot say: compile the CPU kernel if there is a compiler, else go without."""

import runpy
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

# Run by path: importing the package would need torch, which a build environment does not have.
kernel = runpy.run_path(str(Path(__file__).parent / "src/focus_detr/ops/cpu/build.py"))


class BuildWithKernel(build_py):
    """Put the compiled library where this build puts the package: the source tree if editable."""

    def run(self) -> None:
        super().run()
        package = Path(self.get_package_dir("focus_detr.ops.cpu"))
        folder = package if self.editable_mode else Path(self.build_lib, "focus_detr/ops/cpu")
        try:
            kernel["build"](folder)
        except kernel["BuildError"] as error:
            # A library left by an earlier build must not go out as if it were this one's.
            (folder / kernel["library_name"]()).unlink(missing_ok=True)
            print(f"focus-detr: no CPU kernel, plain torch will be used instead: {error}", file=sys.stderr)


class PlatformWheel(bdist_wheel):
    """One wheel a platform for every Python 3: ctypes calls the library, no Python interface is in it."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


class PlatformDistribution(Distribution):
    """Says the package holds compiled code, so that wheels are named for the platform."""

    def has_ext_modules(self) -> bool:
        return True


setup(distclass=PlatformDistribution, cmdclass={"build_py": BuildWithKernel, "bdist_wheel": PlatformWheel})
