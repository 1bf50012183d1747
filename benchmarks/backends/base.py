"""The base of every project's model: the model with its weights, one batch, and how it is run.

Shape letters: B images, H, W their size, K classes.
"""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .measuring import flops_of, gemm_peak, peak_memory, seconds_of

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
STD, MEAN = 64.0, 118.0
"""Normalization of the images for models that take them normalized."""


class BackendError(Exception):
    """An error that the user can correct; its text is the whole message."""


class Backend:
    """A model of one project. A subclass builds `model` and `task`, and defines `predict`, `outputs` and `loss`.

    task: what is compared: 'maps' (all that the network gives), 'detections' or 'classes' (semantic).

    Args:
        request: `model`, the name of a model or its config; `batch`, the file of the images and their ground truth;
            `device`, `seed`, `folder` for the weights, and for ours `weights` and `task`.
    """

    model: nn.Module
    task: str | None

    def __init__(self, request: Mapping[str, Any]):
        self.device = torch.device(request["device"])
        with np.load(request["batch"]) as file:
            self.batch = {name: file[name] for name in file.files}
        self.dtype, self.training, self.optimizer = torch.float32, False, None

    def facts(self) -> dict[str, Any]:
        """What the other project needs, such as the weights file."""
        return {"task": self.task}

    def predict(self) -> Any:
        """One prediction of the batch, with postprocessing."""
        raise NotImplementedError

    def outputs(self) -> dict[str, np.ndarray]:
        """The outputs of a prediction by name."""
        raise NotImplementedError

    def loss(self) -> Tensor:
        """The sum of the losses of the batch."""
        raise NotImplementedError

    def parts(self) -> list[nn.Module]:
        """The modules that are compiled."""
        return [self.model]

    # ---- requests over the pipe ----------------------------------------------------------------------

    def write_outputs(self, path: str, with_loss: bool) -> None:
        """Write the outputs of a prediction in float32, and the losses without dropout, to a file."""
        self.model.eval()
        with torch.no_grad():
            found = self.outputs()
            if with_loss:
                found["loss"] = np.array(float(self.loss()))
        np.savez(path, **found)

    def warm_up(self, dtype: str, compiled: bool, training: bool) -> None:
        """Set how the following runs are done, and run once."""
        self.dtype, self.training = DTYPES[dtype], training
        self.model.train(training)
        if compiled:
            for part in self.parts():
                part.compile()
        if training:
            trained = [p for p in self.model.parameters() if p.requires_grad]
            self.optimizer = self.make_optimizer(trained)
        self.run()

    def make_optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """AdamW; the learning rate is small, so that the weights hardly change."""
        return torch.optim.AdamW(parameters, lr=1e-7)

    def run(self) -> float:
        """Seconds of one prediction or training step."""
        return seconds_of(self._once, self.device)

    def memory(self) -> int:
        """Bytes that a run needs beside the model."""
        return peak_memory(self._once, self.device)

    def flops(self) -> int:
        """Floating-point operations of a run."""
        return flops_of(self._once)

    def gemm(self) -> float:
        """The machine's peak in the runs' dtype, operations a second."""
        return gemm_peak(self.dtype, self.device)

    def _once(self) -> None:
        if not self.training:
            with torch.no_grad(), self._autocast():
                self.predict()
            return
        self.optimizer.zero_grad()
        with self._autocast():
            loss = self.loss()
        loss.backward()
        self.optimizer.step()

    def _autocast(self) -> contextlib.AbstractContextManager:
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    # ---- for subclasses ------------------------------------------------------------------------------

    def images(self) -> list[Tensor]:
        """The images as a dataset returns them: (3, H, W) uint8, BGR."""
        return [torch.from_numpy(image).permute(2, 0, 1).contiguous() for image in self.batch["images"]]

    def normalized(self) -> Tensor:
        """The normalized images (B, 3, H, W), RGB."""
        batch = torch.stack(self.images()).flip(1).float()
        return ((batch - MEAN) / STD).to(self.device)

    def ground_truths(self) -> list[dict[str, Any]]:
        """Of each image `boxes` (N, 4) xyxy, `labels` (N,), `masks` (N, H, W) uint8, `classes` (H, W) and its `size`
        (H, W) and `original` size."""
        size, original = (tuple(map(int, self.batch[name])) for name in ("size", "original"))
        return [
            {
                "boxes": torch.from_numpy(boxes),
                "labels": torch.from_numpy(self.batch["labels"][i]),
                "masks": ellipses(boxes, size),
                "classes": torch.from_numpy(self.batch["classes"][i]),
                "size": size,
                "original": original,
            }
            for i, boxes in enumerate(self.batch["boxes"])
        ]


def ellipses(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The ellipse in each box (N, 4): (N, *size) uint8."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    x1, y1, x2, y2 = (boxes[:, i, None, None] for i in range(4))
    far = ((2 * x - x1 - x2) / (x2 - x1)) ** 2 + ((2 * y - y1 - y2) / (y2 - y1)) ** 2
    return (far <= 1).astype(np.uint8)


def randomize_weights(model: nn.Module, seed: int) -> None:
    """Add noise to all weights: zeros and ones of an initialization would hide errors from the comparison."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if not value.is_floating_point() or name.endswith(("mean", "std")):
                continue
            noise = torch.randn(value.shape, generator=generator).to(value)
            value.add_(noise.abs() if "running_var" in name else noise, alpha=0.02)


def scale_logits(layers: list[nn.Module], run: Callable[[], object], background: bool, wanted: int, thr: float) -> None:
    """Scale the classifiers of a detector with random weights so that it finds as many objects as a trained one.

    Args:
        layers: the classifiers, the last layer of each.
        run: a prediction.
        background: softmax over the classes with background last; False: a sigmoid for each class.
        wanted: the number of scores above `thr`.
    """
    outputs: dict[nn.Module, list[Tensor]] = {layer: [] for layer in layers}
    hooks = [
        layer.register_forward_hook(lambda of, _, out: outputs[of].append(out.detach().float())) for layer in layers
    ]
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    with torch.no_grad():
        for layer, outs in outputs.items():
            if background:
                logits = torch.cat(outs)
                factor = 1.0
                while factor < 1e4 and (logits * factor).softmax(-1)[:, :-1].gt(thr).sum() < wanted:
                    factor *= 1.25
                layer.weight.mul_(factor)
                layer.bias.mul_(factor)
                continue
            logits = torch.cat([out.flatten() for out in outs])
            factor = 1 / float(logits.std())
            lowest = float((logits * factor).topk(min(wanted, len(logits))).values[-1])
            layer.weight.mul_(factor)
            layer.bias.mul_(factor).add_(float(np.log(thr / (1 - thr))) - lowest)


def detections(boxes: Tensor, scores: Tensor, labels: Tensor, masks: np.ndarray | None, i: int) -> dict[str, Any]:
    """The outputs of image i by their common names. masks: (N, H, W) bool."""
    found = {"boxes": boxes, "scores": scores, "labels": labels}
    arrays = {f"{name}_{i}": value.float().cpu().numpy() for name, value in found.items()}
    if masks is not None:
        arrays[f"masks_{i}"] = np.packbits(masks, axis=-1)
    return arrays
