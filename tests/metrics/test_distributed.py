"""Three metrics on one dataset, alone and over two processes that hold unequal shares."""

import json
import pickle
import subprocess
import sys

import pytest
import torch
from mmengine.evaluator import Evaluator

import densevit.metrics  # noqa: F401  (registers them)
from densevit.structures import DataSample, InstanceData

METRICS = [{"type": f"densevit.{name}"} for name in ("CocoMetric", "SemanticMetric", "DepthMetric")]
META = {"classes": ("cup", "book"), "semantic_classes": ("floor", "cup", "book")}


def drawn(number: int) -> DataSample:
    """A sample with the ground truth and the predictions of three tasks, in a batch that padded it."""
    random = torch.Generator().manual_seed(number)
    corners = torch.rand(4, 2, generator=random) * 40
    boxes = torch.cat((corners, corners + 8 + 20 * torch.rand(4, 2, generator=random)), 1)
    labels = torch.randint(2, (4,), generator=random)
    found = InstanceData(
        bboxes=boxes + torch.randn(4, 4, generator=random), scores=torch.rand(4, generator=random), labels=labels
    )
    maps, depth = torch.randint(3, (70, 80), generator=random), 1 + 5 * torch.rand(70, 80, generator=random)
    return DataSample(
        metainfo={
            "img_id": number, "img_path": f"{number}.png", "ori_shape": (64, 72), "img_shape": (64, 72),
            "scale_factor": (1.0, 1.0), "flip": False,
        },
        gt_instances=InstanceData(bboxes=boxes[:3], labels=labels[:3]),
        ignored_instances=InstanceData(bboxes=boxes[3:], labels=labels[3:]),
        pred_instances=found,
        gt_semantic=maps, pred_semantic=maps[:64, :72].roll(1, 0),
        gt_depth=depth, pred_depth=depth[:64, :72] * 1.1,
    )  # fmt: skip


TWO_PROCESSES = """
import json, pickle, sys
import torch.distributed as dist
from mmengine.evaluator import Evaluator
import densevit.metrics
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method="file://" + folder + "/meet", rank=rank, world_size=2)
samples, metrics, meta = pickle.load(open(folder + "/case.pkl", "rb"))
evaluator = Evaluator(metrics)
evaluator.dataset_meta = meta
evaluator.process(samples[:4] if rank == 0 else samples[3:])  # unequal shares, one image on both
print(json.dumps(evaluator.evaluate(len(samples))))
dist.destroy_process_group()
"""


def test_two_processes_are_as_one(tmp_path, root, monkeypatch):
    samples = [drawn(number) for number in range(9)]
    evaluator = Evaluator(METRICS)
    evaluator.dataset_meta = META
    evaluator.process(samples)
    alone = evaluator.evaluate(9)
    assert {name.split("/")[0] for name in alone} == {"coco", "semantic", "depth"}
    assert 0 < alone["coco/bbox_AP"] < 1 and 0 < alone["semantic/mIoU"] < 1
    assert alone["depth/abs_rel"] == pytest.approx(0.1, rel=1e-5)

    monkeypatch.setenv("PYTHONPATH", str(root))
    (tmp_path / "case.pkl").write_bytes(pickle.dumps((samples, METRICS, META)))
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", TWO_PROCESSES, str(rank), str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    answers = [json.loads(run.communicate(timeout=100)[0].strip().splitlines()[-1]) for run in runs]
    assert answers[0] == answers[1]
    assert answers[0] == pytest.approx(alone, abs=1e-12)
