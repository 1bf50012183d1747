"""Our configuration of what another project configured in its own terms: a part or a whole model."""

from collections.abc import Mapping
from typing import Any

from densevit.checkpoints import dpt_transformers
from densevit.checkpoints.architectures import translate_part
from densevit.checkpoints.detectors import (
    DETECTORS,
    PYRAMIDS,
    generalized_rcnn,
    mmdet_detector,
    pyramid_alone,
)
from densevit.checkpoints.dpt_configs import from_depth_anything, from_isl
from densevit.checkpoints.segmentors import (
    SEGMENTORS,
    encoder_decoder,
    segmenter_of_rstrudel,
    upernet_of_transformers,
)
from densevit.checkpoints.settings import Settings

MMDET = ("mmdet", "whai362")
"""Sources whose detectors are configured in mmdetection's terms."""
MMSEG = ("mmseg", "whai362")
"""Sources whose segmentation models are configured in mmsegmentation's terms."""

REPOSITORIES = {
    "rstrudel": segmenter_of_rstrudel,
    "isl-org": from_isl,
    "depth-anything": from_depth_anything,
}
"""Source of whole models of one kind -> what makes ours of their configuration."""

TRANSFORMERS = {"upernet": upernet_of_transformers, **dpt_transformers.CONFIGS}
"""transformers' model_type of whole models -> what makes ours of their configuration."""


def translate(source: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Our configuration of the model that `config` describes in `source`'s own terms.

    Args:
        source: whose terms these are, one of SOURCES.
        config: a part (`type='PyramidVisionTransformer'`) or a whole model (`type='RetinaNet'`).

    Returns:
        dict: what densevit's MODELS builds.

    Raises:
        NotBuilt: no such model here (yet). ConfigError: a key that is unknown, or a value that densevit does not have.
    """
    if source == "detectron2" and "lazy_config" in config:  # a lazy configuration: the model is a part of it
        config = config["model"]
    settings = Settings(config, "model")
    if source == "timm" and settings.type is None:  # config.json names the model under 'architecture'
        settings.type = settings.left.get("architecture")
    if source == "transformers" and settings.type is None:
        settings.type = settings.left.get("model_type")
    if source == "czczup" and settings.type in (*DETECTORS, *SEGMENTORS):  # OpenMMLab's around its own backbone
        source = "mmdet" if settings.type in DETECTORS else "mmseg"
    if source in MMDET and settings.type in DETECTORS:
        return mmdet_detector(source, settings)
    if source in MMSEG and settings.type in SEGMENTORS:
        return encoder_decoder(source, settings)
    if source == "transformers" and settings.type in TRANSFORMERS:
        return TRANSFORMERS[settings.type](settings)
    if source in REPOSITORIES:
        return REPOSITORIES[source](settings)
    if source == "detectron2" and settings.type == "GeneralizedRCNN":
        return generalized_rcnn(settings)
    if source == "detectron2" and settings.type in PYRAMIDS:
        return pyramid_alone(settings)
    return translate_part(source, settings)
