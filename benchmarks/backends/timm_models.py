"""timm's models by name: the feature maps of all stages."""

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .base import Backend, BackendError, randomize_weights


class TimmModel(Backend):
    """A hierarchical model of timm, built for the images' size where it is fixed; of a plain ViT the last map."""

    task = "maps"

    def __init__(self, request: Mapping[str, Any]):
        super().__init__(request)
        import timm
        from safetensors.torch import save_file

        name = request["model"].split(".")[0]
        if not timm.is_model(name):
            close = difflib.get_close_matches(name, timm.list_models(), n=1, cutoff=0.4)
            near = f" (nearest: {close[0]!r})" if close else ""
            raise BackendError(f"timm {timm.__version__} has no model {name!r}{near}")
        size = [int(side) for side in self.batch["size"]]
        arguments: dict[str, Any] = {"img_size": size}
        try:
            model = timm.create_model(name, pretrained=False, num_classes=0, **arguments)
        except TypeError:  # a model that takes every size
            arguments = {}
            model = timm.create_model(name, pretrained=False, num_classes=0)
        self.model = model.to(self.device).eval()
        randomize_weights(self.model, request["seed"])
        self.folder = Path(request["folder"]) / "timm"
        self.folder.mkdir(exist_ok=True)
        settings = {"architecture": name, "num_classes": 0, "model_args": arguments}
        (self.folder / "config.json").write_text(json.dumps(settings))
        state = {key: value.contiguous().cpu() for key, value in self.model.state_dict().items()}
        save_file(state, self.folder / "model.safetensors")
        self.input = self.normalized()
        plain = hasattr(model, "pos_embed") and hasattr(model, "blocks") and not hasattr(model, "stages")
        self.options: dict[str, Any] = {"indices": 1, "norm": True} if plain else {}
        if type(model).__name__ == "MultiScaleVit":  # its one norm belongs to the last map
            self.options = {"norm": True}

    def facts(self) -> dict[str, Any]:
        return {"task": self.task, "weights": str(self.folder)}

    def predict(self) -> list[Tensor]:
        return self.model.forward_intermediates(self.input, intermediates_only=True, output_fmt="NCHW", **self.options)

    def outputs(self) -> dict[str, np.ndarray]:
        return {f"map_{i}": image.float().cpu().numpy() for i, image in enumerate(self.predict())}

    def loss(self) -> Tensor:
        return sum(image.float().square().mean() for image in self.predict())

    def warm_up(self, dtype: str, compiled: bool, training: bool) -> None:
        if compiled:  # `forward` is not what is called
            self.predict = torch.compile(self.predict)
        super().warm_up(dtype, False, training)
