"""Runs of seconds for the tests of the engine: a tiny detector on a few drawn images, by a config file."""

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tiny_coco import make_tiny_coco

STAGES = (
    "dict(embed_dims=(8, 16, 24, 32), depths=(1, 1, 1, 1), num_heads=(1, 2, 3, 4), mlp_ratios=(2, 2, 2, 2), "
    "sr_ratios=(8, 4, 2, 1), linear=False)"
)

CONFIG = """
pipeline = [dict(type="LoadImage"), dict(type="LoadAnnotations"), dict(type="Resize", scale=(64, 48), keep_ratio=True)]
train_dataloader = dict(
    batch_size={batch_size}, num_workers={workers}, sampler=dict(type="TrainSampler"),
    dataset=dict(type="CocoDataset", data_root="{root}", ann_file="annotations/instances_train2017.json",
        data_prefix=dict(img="train2017/"),
        pipeline=pipeline + [dict(type="RandomFlip", prob=0.5), dict(type="PackSample")]))
val_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type="EvalSampler"),
    dataset=dict(type="CocoDataset", data_root="{root}", ann_file="annotations/instances_val2017.json",
        data_prefix=dict(img="val2017/"), pipeline=pipeline + [dict(type="PackSample")], test_mode=True))
test_dataloader = val_dataloader
val_evaluator = dict(type="CocoMetric", metric="bbox")
test_evaluator = val_evaluator
train_cfg = dict(by_epoch=True, max_epochs=3, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05), clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, custom_keys=dict(pos_embed=dict(decay_mult=0.0))))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=4),
    dict(type="MultiStepLR", by_epoch=True, milestones=[2], gamma=0.1)]
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=1, log_metric_by_epoch=False),
    checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=2, save_best="auto"))
log_processor = dict(type="LogProcessor", window_size=1)
default_scope = "densevit"
randomness = dict(seed=3)
model = dict(
    type="DensePredictor",
    backbone=dict(type="PVTv2", arch={stages}, drop_path_rate={drop_path}),
    neck=dict(type="FPN", out_channels=8, num_levels=4),
    head=dict(type="RetinaNetHead", feat_channels=8, stacked_convs=1))
"""


def write_config(
    folder: Path,
    batch_size: int = 2,
    workers: int = 0,
    drop_path: float = 0.3,
    train: int = 7,
    val: int = 3,
    **tree: Any,
) -> Path:
    """A tree of drawn images in folder/data (once) and a config for it in folder/run.py."""
    root = folder / "data"
    if not root.is_dir():
        make_tiny_coco(root, train=train, val=val, **tree)
    path = folder / "run.py"
    path.write_text(
        CONFIG.format(root=root, batch_size=batch_size, workers=workers, drop_path=drop_path, stages=STAGES)
    )
    return path


def train(config: Path, work_dir: Path, resume: bool = False, stop_at: int | None = None, **options: Any) -> Any:
    """Train in this process; `stop_at` ends it right after that iteration, as a kill would.

    Options are --cfg-options with '__' for '.': train_cfg__max_epochs=2. Returns the Runner.
    """
    from densevit.engine.build_runner import build_runner
    from densevit.engine.config import read_config

    cfg = read_config(config, {key.replace("__", "."): value for key, value in options.items()})
    cfg.work_dir = str(work_dir)
    runner = build_runner(cfg, resume=resume)
    if stop_at is not None:
        runner.register_hook(_Stop(stop_at), priority=95)
    with contextlib.suppress(Stopped):
        runner.train()
    return runner


class Stopped(BaseException):
    """Not an Exception: nothing on the way may catch it."""


class _Stop:
    """Ends a run after an iteration, behind all other hooks."""

    priority = 95
    stages: tuple = ()

    def __new__(cls, iteration: int) -> Any:
        from mmengine.hooks import Hook

        class Stop(Hook):
            def after_train_iter(self, runner: Any, **_: Any) -> None:
                if runner.iter + 1 == iteration:
                    raise Stopped

        return Stop()


def losses(work_dir: Path) -> dict[int, float]:
    """The logged training losses by iteration, of all runs in a folder; a later run's replace earlier ones."""
    import json

    found = {}
    for file in sorted(work_dir.glob("*/vis_data/*.json"), key=lambda p: p.stat().st_mtime_ns):
        if file.name in ("scalars.json", "config.py"):
            continue
        for line in file.read_text().splitlines():
            entry = json.loads(line)
            if "loss" in entry and "data_time" in entry and "coco/bbox_AP" not in entry:
                found[entry["step"]] = entry["loss"]
    return found


def weights(runner: Any) -> dict:
    return runner.bare_model.state_dict()


@contextlib.contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file can grow beyond `room` bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
