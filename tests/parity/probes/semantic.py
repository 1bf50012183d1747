"""Tensors of semantic segmentation: mmsegmentation's, Segmenter's and DPT's models."""

import re

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from densevit.converters.config_spec import ConfigReader
from densevit.converters.sources.mmseg import behind_backbone
from densevit.models.postprocess import rescale_map
from densevit.models.protocols import Backbone
from densevit.registry import MODELS
from densevit.structures import DataSample

from .backbones import outputs_of
from .depth import dpt_tensors

SLIDING = re.compile(r"window (\d+), stride (\d+), ori_shape \((\d+), (\d+)\)")
"""The `inference` of a Segmenter case, in its notes."""


class GivenMaps(nn.Module, Backbone):
    """A backbone that returns its input: for cases of a neck and a head alone."""

    def __init__(self, channels: tuple[int, ...], strides: tuple[int, ...]):
        super().__init__()
        self.out_channels, self.out_strides = channels, strides

    def forward(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """maps: (B, C_i, h_i, w_i) each."""
        return maps


def model_on_given_maps(spec: dict, inputs: dict) -> dict:
    """Our config of a case of `neck` and `decode_head` alone, on maps `map_0`, `map_1`, ... ."""
    MODELS.register_module(module=GivenMaps, force=True)  # here: importing this file changes nothing
    maps = [inputs[name] for name in sorted(inputs) if name.startswith("map_")]
    channels = tuple(x.shape[1] for x in maps)
    strides = tuple(spec["model"]["decode_head"].get("feature_strides", [4 * 2**i for i in range(len(maps))]))
    rest = behind_backbone(spec["scheme"], ConfigReader(spec["model"], "model"), channels, strides)
    backbone = {"type": "GivenMaps", "channels": channels, "strides": strides}
    return {"type": "DensePredictor", "backbone": backbone, **rest}


def probe_semantic(model: nn.Module, inputs: dict, spec: dict, _) -> list[dict[str, Tensor]]:
    """Maps before and after the neck, logits, losses, and predictions of whole images and of sliding windows."""
    run, maps = spec["source"].get("run", {}), [inputs[name] for name in sorted(inputs) if name.startswith("map_")]
    image = tuple(maps) if maps else inputs.get("img", inputs.get("image"))
    levels = model.feature_levels(image)
    necks = list(model.neck) if isinstance(model.neck, nn.ModuleList) else [model.neck]
    fused = type(necks[-1]).__name__ == "UPerNet"  # part of the head there
    pyramid = levels[-2] if fused else levels[-1]
    probes = {f"stage{i + 1}": x for i, x in enumerate(levels[0])}
    for i, x in enumerate(pyramid):
        probes |= {f"feat_{i}": x, f"fpn_{i}": x, f"fpn{i + 1}": x}
    logits = model.head(model.select_features("", levels[-1]))
    probes |= dict.fromkeys(("decode_logits", "head", "masks"), logits)
    heads = [(model.head, logits)]
    for i, head in enumerate(model.auxiliary):
        found = head(model.select_auxiliary_features(i, levels))
        heads.append((head, found))
        probes[f"aux_{i}_logits"] = found
    if len(model.auxiliary) == 1:
        probes["aux_logits"] = probes["aux_0_logits"]

    if "label" in inputs:
        probes |= losses(model, image, inputs["label"].long(), heads)
    if "pad_shape" in run:
        probes["predict_logits"] = model.head.enlarge(logits, run["pad_shape"])
    if maps:
        return [probes]
    probes |= upsampled(model, image, logits)
    if "metainfo" in run:
        probes |= predictions(model, image, inputs, run)
    if type(necks[0]).__name__ == "DPTReassemble":
        probes |= dpt_tensors(model, image)
    if spec["scheme"] == "rstrudel":
        probes |= segmenter_tensors(model, image, spec["notes"])
    return [probes]


def losses(model: nn.Module, image: Tensor, label: Tensor, heads: list[tuple[nn.Module, Tensor]]) -> dict[str, Tensor]:
    """Each kind of loss of all heads, and the pixel accuracy among pixels with a class, in percent."""
    samples = [DataSample(gt_semantic=classes) for classes in label]
    found = model(image, samples, mode="loss")
    names = dict.fromkeys(name.rsplit(".", 1)[-1] for name in found)
    prefixes = ["", *(f"aux_{i}." for i in range(len(model.auxiliary)))]
    probes = {name: torch.stack([found[p + name] for p in prefixes if p + name in found]) for name in names}
    valid = label != 255
    correct = [(head.enlarge(x, label.shape[1:]).argmax(1) == label) & valid for head, x in heads]
    probes["acc_seg"] = torch.stack([100 * hits.sum() / valid.sum() for hits in correct])
    return probes


def upsampled(model: nn.Module, image: Tensor, logits: Tensor) -> dict[str, Tensor]:
    """Logits at the image's size, without the preprocessor's padding."""
    height, width = image.shape[2:]
    size = [model.data_preprocessor.round_up(side) for side in (height, width)]
    return {"logits": model.head.enlarge(logits, size)[..., :height, :width]}


def predictions(model: nn.Module, image: Tensor, inputs: dict, run: dict) -> dict[str, Tensor]:
    """Predictions in each original image's frame, of whole images and of sliding windows; classes at the pixels where
    one class leads clearly, which the case's input marks."""
    probes, own = {}, model.inference
    windows = run.get("slide")
    sliding = own
    if windows is not None:
        sliding = MODELS.build(dict(type="SlidingWindow", window=windows["crop_size"], stride=windows["stride"]))
    for kind, inference in (("whole", MODELS.build(dict(type="WholeImage"))), ("slide", sliding)):
        if kind == "slide" and not sliding.dense_heads_only:
            continue
        model.inference = inference
        maps = model.maps(image)[""]
        if kind == "slide":
            probes["slide_raw"] = maps
        samples = []
        for meta in run["metainfo"]:
            shapes = {key: tuple(meta[key]) for key in ("ori_shape", "img_shape")}
            samples.append(DataSample(metainfo={**shapes, "batch_input_shape": tuple(image.shape[2:])}))
        for i, sample in enumerate(model(image, samples, mode="predict")):
            probes[f"{kind}_logits_{i}"] = rescale_map(maps[i], sample, align_corners=model.head.align_corners)
            if (clear := inputs.get(f"{kind}_clear_{i}")) is not None:
                classes = sample.pred_semantic.flatten()
                marked = torch.from_numpy(np.unpackbits(clear.numpy())[: len(classes)]).bool()
                probes[f"{kind}_pred_{i}"] = classes[marked]
    model.inference = own
    return probes


def segmenter_tensors(model: nn.Module, image: Tensor, notes: str) -> dict[str, Tensor]:
    """The encoder's tokens, and probabilities of sliding windows in the original frame."""
    after, _ = outputs_of(model.backbone.blocks, lambda: model.backbone(image))
    probes = {"encoder_tokens": model.backbone.norm(after[-1])}
    if (sliding := SLIDING.search(notes)) is not None:
        window, stride, *size = map(int, sliding.groups())
        short = min(image.shape[2:])
        if short < window:
            sides = [int(side / short * window) for side in image.shape[2:]]
            image = F.interpolate(image, sides, mode="bilinear")
        model.inference = MODELS.build(dict(type="SlidingWindow", window=window, stride=stride))
        sample = DataSample(metainfo=dict(ori_shape=tuple(size), img_shape=tuple(image.shape[2:])))
        probes["inference"] = rescale_map(model.maps(image)[""][0], sample).softmax(0)
    return probes
