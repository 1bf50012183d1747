"""Print what a bug report needs: versions, machine, optional packages."""

import argparse
import importlib.metadata
import platform
import sys

PACKAGES = (
    "torch", "torchvision", "mmengine", "mmcv-lite", "pycocotools", "opencv-python", "numpy", "timm", "shapely",
    "safetensors", "Pillow", "hotcoco", "faster-coco-eval", "tensorboard",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--short", action="store_true", help="the version of densevit alone, without importing torch")


def run(args: argparse.Namespace) -> None:
    import densevit

    if args.short:
        print(densevit.__version__)
        return
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    rows = {
        "densevit": f"{densevit.__version__} ({densevit.__path__[0]})",
        "python": f"{sys.version.split()[0]} ({sys.executable})",
        "system": platform.platform(),
        **{name: _installed(name) for name in PACKAGES},
        "processors": f"{torch.get_num_threads()} threads, {platform.processor() or platform.machine()}",
        "GPUs": ", ".join(gpus) or "none",
        "CUDA of torch": torch.version.cuda or "none",
    }
    print("\n".join(f"{name:16} {value}" for name, value in rows.items()))


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
