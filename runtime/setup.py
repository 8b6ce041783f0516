"""What pyproject.toml cannot say: which of the package's files are in it, and where they lie."""

import os
import runpy
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
SOURCE = HERE.parent / "src" / "focus_detr"

FILES = """
__init__ _version errors folders lazy printable py.typed
data/__init__ data/formats/__init__ data/formats/searching
export/__init__ export/budgets export/detector export/metadata export/onnx export/outside
export/packages
images/__init__ images/archives images/postprocessing images/preprocessing images/reading images/reduced
images/settings images/suppression
inference/__init__ inference/ahead inference/batches inference/choosing inference/costs inference/deadline
inference/memory inference/merging inference/outputs inference/predictor inference/progress inference/results
inference/streaming inference/tiled inference/tiles
inference/sources/__init__ inference/sources/archives inference/sources/containers inference/sources/download
inference/sources/files inference/sources/live inference/sources/named inference/sources/options
inference/sources/pages inference/sources/video inference/sources/web
inference/tracking/__init__ inference/tracking/counting inference/tracking/tracking inference/tracking/video
runtime/__init__ runtime/cli runtime/predictor
structures/__init__ structures/auto_budget structures/budget structures/classes structures/frame
structures/instances structures/masks structures/of_torch structures/pixel_masks
zoo/__init__ zoo/cache zoo/resolve
""".split()


class BuildShared(build_py):
    """Takes the files from the whole package, where they have their one home."""

    def run(self) -> None:
        for name in FILES:
            path = SOURCE / (name if "." in name else f"{name}.py")
            target = Path(self.build_lib, "focus_detr", path.relative_to(SOURCE))
            self.mkpath(str(target.parent))
            self.copy_file(str(path), str(target))


os.chdir(HERE)
version = runpy.run_path(str(SOURCE / "_version.py"))["__version__"]
setup(
    version=version,
    packages=["focus_detr"],
    package_dir={"focus_detr": "."},
    cmdclass={"build_py": BuildShared},
)
