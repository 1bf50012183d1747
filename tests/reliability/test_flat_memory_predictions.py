"""What predictions keep does not grow with their number, whatever sizes come: 300 images, and 2,000 frames."""

import json
import os
import subprocess
import sys

import pytest

PREDICTIONS = """
import json, os, sys
sys.path.insert(0, {tests!r})
import numpy as np
import tiny
import torch
from mmengine.config import Config
from densevit import Predictor
from densevit.ops.caching import by_bytes
from densevit.registry import MODELS

torch.set_num_threads(1)
torch.manual_seed(0)
by_bytes.limit = 2**24  # is soon full: what is kept beyond would show
backbone = dict(tiny.BACKBONES["Swin"][0], type="Swin")
settings = tiny.model_config() if {kind!r} == "pvt" else dict(tiny.model_config(), backbone=backbone)
model = MODELS.build(settings)
folder = {folder!r}
meta = dict(dataset_meta=dict(classes=("a", "b", "c")))
torch.save(dict(state_dict=model.state_dict(), meta=meta), folder + "/w.pth")
steps = [dict(type="LoadImage"), dict(type="PackSample")]
loader = dict(dataset=dict(pipeline=steps))
predictor = Predictor(Config(dict(model=settings, test_dataloader=loader)), folder + "/w.pth", "cpu")
random, used = np.random.default_rng(0), []
noise = random.integers(0, 256, (320, 320, 3), dtype=np.uint8)

def sizes():
    for number in range({count}):
        height, width = random.integers(32, {largest}, 2)
        yield noise[:height, :width]

for number, found in enumerate(predictor.batch(sizes(), size=1)):
    assert found.image.shape[:2] == found.ori_shape
    if number % {step} == {step} - 1:
        pages = int(open("/proc/self/statm").read().split()[1])
        used.append((pages * os.sysconf("SC_PAGE_SIZE") / 2**20, len(os.listdir("/proc/self/fd")), by_bytes.bytes))
print(json.dumps(used))
"""


def used_by(root, folder, **settings) -> list[list[float]]:
    """MB, file descriptors and bytes in the cache, ten times on the way."""
    script = PREDICTIONS.format(tests=str(root / "tests"), folder=str(folder), step=settings["count"] // 10, **settings)
    env = dict(os.environ, PYTHONPATH=str(root), OMP_NUM_THREADS="1")
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isfile("/proc/self/statm"), reason="needs /proc")
@pytest.mark.parametrize(
    ("kind", "count", "largest"), [("pvt", 300, 320), ("swin", 300, 320), ("pvt", 2000, 160)], ids=str
)
def test_memory_and_file_descriptors_do_not_grow_over_images_of_changing_sizes(root, tmp_path, kind, count, largest):
    used = used_by(root, tmp_path, kind=kind, count=count, largest=largest)
    memory, descriptors, kept = zip(*used, strict=True)
    assert max(memory[5:]) - max(memory[:5]) < 25, used
    assert len(set(descriptors)) == 1, used
    assert 0 < max(kept) <= 2**24, used
