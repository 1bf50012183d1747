"""Evaluates a checkpoint: compares its classes with the dataset's, computes the metrics, writes and draws results."""

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from densevit.checkpoints.reading import read_file
from densevit.converters import load_weights
from densevit.engine.build_runner import build_runner
from densevit.engine.classes import compare_classes, dataset_meta
from densevit.engine.config import config_files
from densevit.errors import ConfigError, DataError
from densevit.outputs import inputs_of, require_file

if TYPE_CHECKING:
    from mmengine.config import Config


def evaluate_checkpoint(
    cfg: "Config",
    checkpoint: str,
    out: str | None = None,
    on_sample: Callable[[Any, np.ndarray, Mapping], None] | None = None,
    palette: bool = False,
    compile: bool = False,
) -> dict:
    """Predict the test set with a checkpoint and score the predictions.

    Args:
        cfg: from `read_config`.
        checkpoint: file of weights, in any supported format.
        out: where the metric writes the results: a JSON file of objects, or a folder of PNG maps of classes or depth.
        on_sample: called with each sample (ground truth and predictions), the network's input as (H, W, 3) uint8 BGR,
            and the dataset's metainfo; a `FileNames` as its attribute `names` is checked before anything is predicted.
        palette: write the PNG maps with the dataset's colors.
        compile: torch.compile the model, see `DensePredictor.compile`.

    Returns:
        dict: the metrics by name.

    Raises:
        CheckpointError: the file cannot be read, is of another model, or of other classes than the dataset's.
        ConfigError: torch.compile has nothing to build code with; or results cannot be written, or would be over a file
            that is read. Where the disk fills up only at the end, the metrics are logged before it is raised.
    """
    content = read_file(checkpoint)
    meta = dataset_meta(content)
    runner = build_runner(cfg, training=False)
    _check_outputs(runner, checkpoint, out, on_sample, palette)
    classes = runner.test_dataset.metainfo if hasattr(runner.test_dataset, "metainfo") else {}
    compare_classes(checkpoint, meta, classes)
    report = load_weights(runner.bare_model, content, file=str(checkpoint))
    runner.logger.info(str(report))
    if compile:
        runner.bare_model.compile()
    progress = _Progress(on_sample, classes)
    runner.register_hook(progress)
    metrics = runner.test()
    parts = [*runner.test_loop.evaluator.metrics, progress]
    failures = [sentence for part in parts for sentence in getattr(part, "failures", ())]
    if failures:
        raise ConfigError(
            f"{'; '.join(failures)}; the metrics above are complete: make room, or choose another folder."
        )
    if out is not None and is_main_process():
        runner.logger.info(f"results written to {out}")
    return metrics


evaluate_checkpoint.__test__ = False  # no test, whatever pytest thinks of the name


def _check_outputs(runner: Any, checkpoint: str, out: str | None, on_sample: Any, palette: bool) -> None:
    """ConfigError before anything is predicted where an output cannot be written or would overwrite an input."""
    dataset = runner.test_loop.dataloader.dataset
    inputs = inputs_of(runner.cfg, dataset, files=[checkpoint, *config_files(runner.cfg)])
    if out is not None:
        _write_results_to(runner, out, palette)
    for metric in runner.test_loop.evaluator.metrics:
        if getattr(metric, "matrix", "") is None:
            metric.matrix = os.path.join(runner.work_dir, "confusion_matrix.json")
        if getattr(metric, "matrix", None):
            require_file(metric.matrix, "the confusion matrix", inputs)
        if getattr(metric, "out", None) and hasattr(metric, "check_out"):
            metric.check_out(dataset, "--out", inputs)
    if hasattr(on_sample, "names"):
        on_sample.names.check(dataset, "--show-dir", inputs)


def _write_results_to(runner: Any, out: str, palette: bool) -> None:
    writers = [metric for metric in runner.test_loop.evaluator.metrics if hasattr(metric, "out")]
    if not writers:
        raise ConfigError(
            f"--out {out}: no metric of test_evaluator writes results; use CocoMetric, SemanticMetric or DepthMetric."
        )
    writers[0].out = out
    if palette and not hasattr(writers[0], "palette"):
        raise ConfigError(f"--palette: {type(writers[0]).__name__} writes no maps of classes; leave it out.")
    if palette:
        writers[0].palette = True


class _Progress(Hook):
    """A progress bar, and the call for each sample."""

    def __init__(self, on_sample: Callable | None, meta: Mapping) -> None:
        self.on_sample, self.meta, self.failures = on_sample, meta, []

    def before_test_epoch(self, runner: Any) -> None:
        self.total, self.done = len(runner.test_loop.dataloader), 0
        self.begun = self.shown = time.monotonic()

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Sequence | None = None
    ) -> None:
        self.done += 1
        if is_main_process():
            self._show()
        if self.on_sample:
            images = data_batch["inputs"]
            # several views of each image: the first are the images as they are
            images = images[0] if isinstance(images[0], (list, tuple)) else images
            for sample, image in zip(outputs or (), images, strict=True):
                try:
                    self.on_sample(sample, image.permute(1, 2, 0).cpu().numpy(), self.meta)
                except (DataError, OSError) as error:
                    self.failures, self.on_sample = [str(error).rstrip(".")], None
                    return

    def _show(self) -> None:
        """A bar on a terminal; elsewhere a line every half minute."""
        now, last, terminal = time.monotonic(), self.done == self.total, sys.stderr.isatty()
        if not last and now - self.shown < (0.1 if terminal else 30):
            return
        self.shown = now
        seconds = now - self.begun
        left = seconds / self.done * (self.total - self.done)
        filled = round(30 * self.done / self.total)
        bar = "#" * filled + "." * (30 - filled)
        text = f"[{bar}] {self.done}/{self.total} batches, {seconds:.0f} s, {left:.0f} s left"
        print(f"\r{text}" if terminal else text, end="\n" if last or not terminal else "", file=sys.stderr, flush=True)
