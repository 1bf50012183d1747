"""Two threads on one Predictor give what each alone gives."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tiny
import torch
from mmengine.config import Config

from densevit import Predictor
from densevit.ops.caching import by_bytes
from densevit.registry import MODELS

SWIN = dict(tiny.BACKBONES["Swin"][0], type="Swin")


@pytest.fixture(params=["pvt", "swin"])
def predictor(request, tmp_path):
    settings = tiny.model_config() if request.param == "pvt" else dict(tiny.model_config(), backbone=SWIN)
    torch.manual_seed(0)
    model = MODELS.build(settings)
    with torch.no_grad():  # scores that differ
        model.head.retina_cls.weight.normal_(0, 0.5)
    meta = dict(dataset_meta=dict(classes=("a", "b", "c")))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), tmp_path / "w.pth")
    steps = [dict(type="LoadImage"), dict(type="Resize", scale=(160, 120), keep_ratio=True), dict(type="PackSample")]
    config = Config(dict(model=settings, test_dataloader=dict(dataset=dict(pipeline=steps))))
    return Predictor(config, tmp_path / "w.pth", "cpu")


@pytest.mark.parametrize("limit", [2**29, 2**16])
def test_threads_on_one_predictor_give_equal_results(predictor, monkeypatch, limit):
    """With room for everything that is kept by size, and with next to none: threads throw out what others use."""
    monkeypatch.setattr(by_bytes, "limit", limit)
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (*random.integers(40, 200, 2), 3), dtype=np.uint8) for _ in range(24)]
    by_bytes.clear()
    alone = [predictor(image, tile=96 if n % 5 == 0 else None) for n, image in enumerate(images)]
    by_bytes.clear()
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(predictor, image, tile=96 if n % 5 == 0 else None) for n, image in enumerate(images)] * 2
        together = [job.result() for job in jobs]
    assert sum(len(found.boxes) for found in alone) > 100
    for found, other in zip(alone * 2, together, strict=True):
        for name in ("boxes", "scores", "labels"):
            assert np.array_equal(getattr(found, name), getattr(other, name))
        assert np.array_equal(found.image, other.image)
