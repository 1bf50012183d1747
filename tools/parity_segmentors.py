"""Which of our tensors the outputs of a parity case are, where the model tells each pixel's class."""

import re

import numpy as np
import torch
from parity_dpt import of_dpt
from torch import Tensor, nn
from torch.nn import functional as F

from densevit.converters.config_spec import ConfigReader
from densevit.converters.sources.mmseg import behind_backbone
from densevit.models.postprocess import rescale_map
from densevit.registry import MODELS
from densevit.structures import DataSample

SLIDING = re.compile(r"window (\d+), stride (\d+), ori_shape \((\d+), (\d+)\)")
"""How a case's notes say what its `inference` was."""


@MODELS.register_module()
class GivenMaps(nn.Module):
    """A backbone whose maps are its input: for cases of what lies behind one."""

    def __init__(self, channels: tuple[int, ...], strides: tuple[int, ...]):
        super().__init__()
        self.out_channels, self.out_strides = channels, strides

    def forward(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """maps: (B, C_i, h_i, w_i) each."""
        return maps


def behind_maps(spec: dict, inputs: dict) -> dict:
    """Our configuration of a case that has `neck` and `decode_head` alone, on maps `map_0`, `map_1`, ... ."""
    maps = [inputs[name] for name in sorted(inputs) if name.startswith("map_")]
    channels = tuple(x.shape[1] for x in maps)
    strides = tuple(spec["model"]["decode_head"].get("feature_strides", [4 * 2**i for i in range(len(maps))]))
    rest = behind_backbone(spec["scheme"], ConfigReader(spec["model"], "model"), channels, strides)
    backbone = {"type": "GivenMaps", "channels": channels, "strides": strides}
    return {"type": "DensePredictor", "backbone": backbone, **rest}


def probe_segmentor(model, inputs: dict, spec: dict) -> tuple[dict[str, dict], list[str]]:
    """Maps before and after the neck, logits, losses, and predictions as a whole and by windows."""
    run, maps = spec["source"].get("run", {}), [inputs[name] for name in sorted(inputs) if name.startswith("map_")]
    image = tuple(maps) if maps else inputs.get("img", inputs.get("image"))
    levels = model.feature_levels(image)
    necks = list(model.neck) if isinstance(model.neck, nn.ModuleList) else [model.neck]
    fused = type(necks[-1]).__name__ == "UPerNet"  # part of the head there
    seen = levels[-2] if fused else levels[-1]
    probes = {f"stage{i + 1}": x for i, x in enumerate(levels[0])}
    for i, x in enumerate(seen):
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
        return {"": probes}, []
    probes |= upsampled(model, image, logits)
    if "metainfo" in run:
        probes |= predictions(model, image, inputs, run)
    if type(necks[0]).__name__ == "DPTReassemble":
        probes |= of_dpt(model, image)
    if spec["scheme"] == "rstrudel":
        probes |= of_segmenter(model, image, spec["notes"])
    return {"": probes}, []


def losses(model, image: Tensor, label: Tensor, heads: list[tuple[nn.Module, Tensor]]) -> dict[str, Tensor]:
    """Each kind of loss of all heads, and the share of right pixels among those with a class, in percent."""
    samples = [DataSample(gt_semantic=ground_truth) for ground_truth in label]
    found = model(image, samples, mode="loss")
    names = dict.fromkeys(name.rsplit(".", 1)[-1] for name in found)
    locations = ["", *(f"aux_{i}." for i in range(len(model.auxiliary)))]
    probes = {
        name: torch.stack([found[location + name] for location in locations if location + name in found])
        for name in names
    }
    known = label != 255
    right = [(head.enlarge(x, label.shape[1:]).argmax(1) == label) & known for head, x in heads]
    probes["acc_seg"] = torch.stack([100 * hits.sum() / known.sum() for hits in right])
    return probes


def upsampled(model, image: Tensor, logits: Tensor) -> dict[str, Tensor]:
    """Logits at the image's size, which the preprocessor may have completed."""
    height, width = image.shape[2:]
    size = [model.data_preprocessor.round_up(side) for side in (height, width)]
    return {"logits": model.head.enlarge(logits, size)[..., :height, :width]}


def predictions(model, image: Tensor, inputs: dict, run: dict) -> dict[str, Tensor]:
    """What comes out in each original image's frame, of images as a whole and by windows; classes where the case's
    input says that one leads clearly."""
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
                found = sample.pred_semantic.flatten()
                chosen = torch.from_numpy(np.unpackbits(clear.numpy())[: len(found)]).bool()
                probes[f"{kind}_pred_{i}"] = found[chosen]
    model.inference = own
    return probes


def of_segmenter(model, image: Tensor, notes: str) -> dict[str, Tensor]:
    """The encoder's tokens, and probabilities in the original frame by windows."""
    last: list[Tensor] = []
    hook = model.backbone.blocks[-1].register_forward_hook(lambda _, __, out: last.append(out))
    model.backbone(image)
    hook.remove()
    probes = {"encoder_tokens": model.backbone.norm(last[0])}
    if (said := SLIDING.search(notes)) is not None:
        window, stride, *size = map(int, said.groups())
        short = min(image.shape[2:])
        if short < window:
            sides = [int(side / short * window) for side in image.shape[2:]]
            image = F.interpolate(image, sides, mode="bilinear")
        model.inference = MODELS.build(dict(type="SlidingWindow", window=window, stride=stride))
        sample = DataSample(metainfo=dict(ori_shape=tuple(size), img_shape=tuple(image.shape[2:])))
        probes["inference"] = rescale_map(model.maps(image)[""][0], sample).softmax(0)
    return probes
