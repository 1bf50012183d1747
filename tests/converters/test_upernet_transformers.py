"""UPerNet is held against transformers' own, on the same weights, from a folder as transformers saves it."""

import json

import pytest
import torch
import torch.nn.functional as F

from densevit import import_model
from densevit.converters import translate
from densevit.errors import ConfigError
from densevit.structures import DataSample

LABELS = {i: f"thing {i}" for i in range(7)}
SWIN = dict(embed_dim=16, depths=[2, 1, 2, 1], num_heads=[1, 2, 2, 4], window_size=5)
STAGES = ["stage1", "stage2", "stage3", "stage4"]


def saved(tmp_path, **settings):
    """A folder with a narrow UperNet around Swin, and transformers' model, all weights drawn."""
    transformers = pytest.importorskip("transformers")
    backbone = transformers.SwinConfig(out_features=STAGES, **SWIN)
    config = transformers.UperNetConfig(
        backbone_config=backbone, hidden_size=24, auxiliary_channels=12, id2label=LABELS, **settings
    )
    theirs = transformers.UperNetForSemanticSegmentation(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in theirs.state_dict().items():
            if value.is_floating_point():
                drawn = torch.randn(value.shape, generator=generator)
                value.copy_(drawn.abs() + 0.5 if "var" in name else drawn * (0.3 if value.ndim == 1 else 0.1))
    theirs.save_pretrained(tmp_path)
    return theirs


@pytest.mark.parametrize(
    "settings", [{}, dict(pool_scales=[1, 3], auxiliary_concat_input=True, auxiliary_num_convs=2)], ids=["plain", "odd"]
)
def test_a_folder_of_transformers_opens_with_its_logits_loss_and_class_names(tmp_path, settings):
    theirs, imported = saved(tmp_path, **settings), import_model(tmp_path)
    ours = imported.model
    assert imported.load_report.complete
    assert imported.load_report.scheme == "transformers"
    assert ours.classes == tuple(LABELS.values())
    images = torch.randn(2, 3, 75, 118)
    ground_truth = torch.randint(0, 7, (2, 75, 118))
    ground_truth[:, :20] = 255
    with torch.no_grad():
        wanted = theirs(images, labels=ground_truth)
        levels = ours.feature_levels(images)
        logits = ours.maps(images)[""]
        hints = ours.auxiliary[0](ours.select_auxiliary_features(0, levels))
        hints = F.interpolate(hints, images.shape[2:], mode="bilinear")
        hinted = theirs.auxiliary_head(theirs.backbone(images).feature_maps)
        losses = ours(images, [DataSample(gt_semantic=x) for x in ground_truth], mode="loss")
    for found, expected in (
        (logits, wanted.logits),
        (hints, F.interpolate(hinted, images.shape[2:], mode="bilinear")),
        (sum(losses.values()), wanted.loss),
    ):
        assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_a_model_without_auxiliary_head_has_none(tmp_path):
    saved(tmp_path, use_auxiliary_head=False)
    assert len(import_model(tmp_path).model.auxiliary) == 0


def test_mean_and_deviation_of_the_image_processor_are_taken(tmp_path):
    saved(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(dict(image_mean=[0.5] * 3, image_std=[0.25] * 3)))
    preprocessor = import_model(tmp_path).model.data_preprocessor
    assert preprocessor.mean.flatten().tolist() == [127.5] * 3
    assert preprocessor.std.flatten().tolist() == [63.75] * 3


def test_the_older_long_form_of_a_configuration_is_read_and_an_unknown_key_is_named():
    backbone = dict(model_type="swin", **SWIN, out_features=STAGES, architectures=None, top_k=50, bos_token_id=None)
    config = dict(model_type="upernet", architectures=["UperNetForSemanticSegmentation"], backbone_config=backbone)
    config |= dict(hidden_size=24, num_labels=7, id2label={str(k): v for k, v in LABELS.items()})
    assert translate("transformers", config)["head"]["num_classes"] == 7
    with pytest.raises(ConfigError, match=r"'pool_scale' .*nearest: 'pool_scales'"):
        translate("transformers", dict(config, pool_scale=[1, 2]))
