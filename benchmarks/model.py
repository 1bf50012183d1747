"""One model's prediction or training step, measured alone or compared with another project.

Shape letters: B images, H, W their size.
"""

import os
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.compare import require_same
from benchmarks.process import BackendProcess
from benchmarks.ratios import Ratio, alternate, ratio_of
from benchmarks.reference_models import reference_model
from densevit.errors import ConfigError

ORIGINAL = 0.6
"""An original image's side over the network's input: COCO's 480 pixels come to 800."""
BOXES = 8
CLASSES = 80


class Measured(NamedTuple):
    """The measurements.

    ratio: times and their ratio, None without a peer. seconds: the median of our runs. memory: bytes beside the model,
    ours and theirs. flops: of one run, of the peer's model where there is one. peak: of the machine, operations a
    second. agreed: what was compared.
    """

    ratio: Ratio | None
    seconds: float
    memory: tuple[int, int | None]
    flops: int
    peak: float
    agreed: str | None

    @property
    def share(self) -> float:
        """Operations over our time, as a share of the machine's peak."""
        return self.flops / self.seconds / self.peak


def parse_size(text: str) -> tuple[int, int]:
    """'800x1216' -> (800, 1216), height and width. Raises ConfigError for anything else."""
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdigit() and 0 < int(side) <= 16384 for side in sides):
        raise ConfigError(f"--size {text!r} is no height and width in pixels, such as 800x1216.")
    return int(sides[0]), int(sides[1])


def measure_model(
    config: str,
    size: tuple[int, int] = (800, 1216),
    batch: int = 1,
    dtype: str = "float32",
    compiled: bool = False,
    training: bool = False,
    peer: str | None = None,
    peer_model: str | None = None,
    peer_python: str | os.PathLike | None = None,
    peer_compiled: bool = False,
    threads: int | None = None,
    device: str = "cpu",
    rounds: int = 7,
    options: Mapping[str, Any] | None = None,
) -> Measured:
    """Time a model on random images, alone or against a peer on the same weights once both gave the same outputs.

    The peer initializes the weights and saves them as its project does; ours are read from that file. Predictions of
    whole models go from uint8 images to results in the original image's frame, training steps through losses, the
    backward pass and AdamW.

    Args:
        config: a recipe; with a peer also the name of one of its models (timm's 'pvt_v2_b2', ...), from which ours is
            built.
        size: height and width of the network's input.
        batch: number of images.
        dtype: 'float32', or 'bf16' for autocast; what is compared is always float32.
        compiled, peer_compiled: torch.compile.
        training: measure training steps.
        peer: 'mmdet', 'mmseg', 'timm', 'transformers', 'torchvision', or 'densevit' for another version; None: ours
            alone.
        peer_model: the peer's model in its own terms, where it does not follow from the recipe.
        peer_python: the interpreter that has the peer; None the present one.
        threads: of each process; None: the cores that this process may use.
        device: torch's name of it.
        rounds: runs of each model.
        options: changes to the recipe, by dotted path.

    Raises:
        ConfigError: no such recipe, model, peer or device; the two give different outputs.
    """
    threads = threads or available_cores()
    name, imported = (config, False) if peer is None else reference_model(config, peer, peer_model)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="densevit-benchmark-"))
        common = {"seed": 0, "device": device, "folder": folder, "options": dict(options or {}), "classes": CLASSES}
        common["batch"] = _random_batch(Path(folder), size, batch, peer in (None, "mmdet", "densevit"))
        facts: dict[str, Any] = {}
        other = None
        if peer is not None:
            other = stack.enter_context(BackendProcess(peer, peer_python, threads))
            facts = other.ask("open", model=name, **common)
            common |= {"classes": facts.get("classes") or CLASSES}
        own = stack.enter_context(BackendProcess("densevit", None, threads))
        shared = {key: facts.get(key) for key in ("weights", "task", "source", "settings")}
        own.ask("open", **common, **shared, model=config, imported=imported)

        agreed = None
        if other is not None:
            with_loss = training and not facts.get("random_loss")
            found = []
            for backend, name in ((own, "ours"), (other, "theirs")):
                path = str(Path(folder) / f"{name}.npz")
                backend.ask("write_outputs", path, with_loss)
                with np.load(path) as file:
                    found.append({key: file[key] for key in file.files})
            agreed = require_same(*found, facts["task"], peer)

        backends = [own] if other is None else [own, other]
        for backend, compile_it in zip(backends, (compiled, peer_compiled), strict=False):
            flops = backend.ask("flops") if not training else None
            backend.ask("warm_up", dtype, compile_it, training)
            if training:
                flops = backend.ask("flops")
        memory = tuple(backend.ask("memory") for backend in backends)
        peak = own.ask("gemm")
        ours, theirs = alternate(lambda: own.ask("run"), other and (lambda: other.ask("run")), rounds)
        peak = max(peak, own.ask("gemm"))
        ratio = ratio_of(ours, theirs) if other is not None else None
        return Measured(ratio, float(np.median(ours)), (*memory, None)[:2], flops, peak, agreed)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _random_batch(folder: Path, size: tuple[int, int], batch: int, smaller: bool) -> str:
    """Write B images of colored patches and noise with their ground truth to a file; where `smaller`, the original
    images are smaller than the network's input."""
    random = np.random.default_rng(0)
    height, width = size
    cells = random.random((batch, -(-height // 24), -(-width // 24), 3)) * 200
    blocks = cells.repeat(24, 1).repeat(24, 2)[:, :height, :width]
    images = np.clip(blocks + random.random((batch, height, width, 3)) * 55, 0, 255).astype(np.uint8)
    corners = random.random((batch, BOXES, 2)) * 0.6
    sides = 0.1 + random.random((batch, BOXES, 2)) * 0.3
    extent = np.array([width, height])
    boxes = np.concatenate([corners * extent, (corners + sides) * extent], -1).astype(np.float32)
    original = [max(1, round(side * ORIGINAL)) for side in size] if smaller else size
    path = folder / "batch.npz"
    np.savez(
        path,
        images=images,
        boxes=boxes,
        labels=random.integers(0, 3, (batch, BOXES)),
        classes=random.integers(0, 3, cells.shape[:3]).repeat(24, 1).repeat(24, 2)[:, :height, :width],
        size=np.array(size),
        original=np.array(original),
    )
    return str(path)
