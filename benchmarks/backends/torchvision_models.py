"""torchvision's Swin transformers: the feature maps of all stages."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .base import Backend, BackendError, randomize_weights

NAMES = ("swin_t", "swin_s", "swin_b")
RENAMED = (
    (r"features\.0\.0\.(.+)", lambda rest: f"patch_embed.proj.{rest}"),
    (r"features\.0\.2\.(.+)", lambda rest: f"patch_embed.norm.{rest}"),
    (r"norms\.(\d)\.(.+)", lambda i, rest: f"norm{i}.{rest}"),
    (r"features\.([1357])\.(\d+)\.mlp\.0\.(.+)", lambda i, k, rest: f"layers.{int(i) // 2}.blocks.{k}.mlp.fc1.{rest}"),
    (r"features\.([1357])\.(\d+)\.mlp\.3\.(.+)", lambda i, k, rest: f"layers.{int(i) // 2}.blocks.{k}.mlp.fc2.{rest}"),
    (r"features\.([1357])\.(\d+)\.(.+)", lambda i, k, rest: f"layers.{int(i) // 2}.blocks.{k}.{rest}"),
    (r"features\.([246])\.(.+)", lambda i, rest: f"layers.{int(i) // 2 - 1}.downsample.{rest}"),
)
"""torchvision's parameter names -> microsoft's; both pad a map to whole windows before the shift."""


class TorchvisionModel(Backend):
    """A Swin of torchvision as a detector's backbone: with a norm on each map, which torchvision's classifier lacks."""

    task = "maps"

    def __init__(self, request: Mapping[str, Any]):
        super().__init__(request)
        import torchvision

        name = request["model"]
        if name not in NAMES:
            raise BackendError(f"torchvision's model {name!r} cannot be measured: name one of {', '.join(NAMES)}")
        self.model = getattr(torchvision.models, name)(weights=None)
        stages = self.model.features[1::2]
        self.model.norms = nn.ModuleList(nn.LayerNorm(stage[0].attn.qkv.in_features) for stage in stages)
        self.model.norm, self.model.head = nn.Identity(), nn.Identity()
        self.model = self.model.to(self.device).eval()
        randomize_weights(self.model, request["seed"])
        first = stages[0][0].attn
        arch = dict(
            embed_dim=first.qkv.in_features,
            depths=[len(stage) for stage in stages],
            num_heads=[stage[0].attn.num_heads for stage in stages],
            mlp_ratio=4,
        )
        self.settings = dict(type="Swin", arch=arch, window_size=first.window_size[0], shift=dict(small_maps=False))
        state = {microsofts(key): value.cpu() for key, value in self.model.state_dict().items()}
        state = {key: value for key, value in state.items() if not key.endswith("relative_position_index")}
        self.saved = str(Path(request["folder"]) / "torchvision.pth")
        torch.save({"state_dict": state}, self.saved)
        self.input = self.normalized()

    def facts(self) -> dict[str, Any]:
        return {"task": self.task, "weights": self.saved, "source": "microsoft", "settings": self.settings}

    def predict(self) -> list[Tensor]:
        x, maps = self.input, []
        for i, part in enumerate(self.model.features):
            x = part(x)
            if i % 2:
                maps.append(self.model.norms[i // 2](x).permute(0, 3, 1, 2))
        return maps

    def outputs(self) -> dict[str, np.ndarray]:
        return {f"map_{i}": image.float().cpu().numpy() for i, image in enumerate(self.predict())}

    def loss(self) -> Tensor:
        return sum(image.float().square().mean() for image in self.predict())

    def parts(self) -> list[nn.Module]:
        return [*self.model.features, *self.model.norms]


def microsofts(name: str) -> str:
    """The name that a tensor of torchvision's Swin has in microsoft's."""
    for pattern, made in RENAMED:
        if found := re.fullmatch(pattern, name):
            return made(*found.groups())
    raise BackendError(f"unexpected tensor {name!r} in a Swin of torchvision")
