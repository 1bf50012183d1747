"""transformers' models of depth and semantic segmentation, by name or from a folder with config.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from .base import Backend, BackendError, randomize_weights

PUBLISHED = ("depth-anything-small", "dpt-base")
"""Depth-Anything V2 Small (arXiv 2406.09414), DPT on ViT-B/16 (arXiv 2103.13413)."""


class TransformersModel(Backend):
    """A model of transformers and its raw output maps."""

    task = "maps"

    def __init__(self, request: Mapping[str, Any]):
        super().__init__(request)
        import transformers

        name = request["model"]
        if name == "depth-anything-small":
            inner = transformers.Dinov2Config(
                hidden_size=384,
                num_attention_heads=6,
                image_size=518,
                patch_size=14,
                out_features=["stage3", "stage6", "stage9", "stage12"],
                apply_layernorm=True,
                reshape_hidden_states=False,
            )
            config = transformers.DepthAnythingConfig(
                backbone_config=inner,
                reassemble_hidden_size=384,
                neck_hidden_sizes=[48, 96, 192, 384],
                fusion_hidden_size=64,
            )
            model = transformers.DepthAnythingForDepthEstimation(config)
        elif name == "dpt-base":
            config = transformers.DPTConfig(
                hidden_size=768, backbone_out_indices=[2, 5, 8, 11], neck_hidden_sizes=[96, 192, 384, 768]
            )
            model = transformers.DPTForDepthEstimation(config)
        elif (Path(name) / "config.json").is_file():
            config = transformers.AutoConfig.from_pretrained(name)
            classes = [getattr(transformers, kind, None) for kind in config.architectures or ()]
            if not classes or classes[0] is None:
                raise BackendError(f"{name}/config.json names no class of transformers under 'architectures'")
            model = classes[0](config)
        else:
            raise BackendError(
                f"transformers: {name!r} is neither a folder with config.json nor one of {', '.join(PUBLISHED)}"
            )
        self.model = model.to(self.device).eval()
        randomize_weights(self.model, request["seed"])
        last = self.model.get_submodule("head.head.4") if name == "dpt-base" else None
        last = self.model.get_submodule("head.conv3") if name == "depth-anything-small" else last
        if last is not None:
            last.bias.data.fill_(3.0)  # above the last ReLU
        self.folder = Path(request["folder"]) / "transformers"
        self.model.save_pretrained(self.folder)
        self.input = self.normalized()

    def facts(self) -> dict[str, Any]:
        return {"task": self.task, "weights": str(self.folder)}

    def predict(self) -> Tensor:
        found = self.model(pixel_values=self.input)
        return found.predicted_depth[:, None] if "predicted_depth" in found else found.logits

    def outputs(self) -> dict[str, np.ndarray]:
        return {"map_0": self.predict().float().cpu().numpy()}

    def loss(self) -> Tensor:
        return self.predict().float().square().mean()
