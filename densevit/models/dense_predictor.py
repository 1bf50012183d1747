"""DensePredictor: preprocessor, backbone, neck(s) and head(s), nothing else. Every model of densevit is one.

The sockets (any part that fits works with every other):

    Backbone   out_channels, out_strides: tuple[int, ...]
               forward(images (B, 3, H, W)) -> tuple of (B, C_i, ceil(H / s_i), ceil(W / s_i)), fine to coarse
    Neck       built with in_channels, in_strides; publishes out_channels, out_strides
               forward(features) -> features
    Head       built with in_channels, in_strides (and num_classes where it has classes)
               loss(features, samples) -> dict of 'loss_*' tensors or lists of them
               predict(features, samples) -> list of dicts of DataSample fields, in the ORIGINAL image's frame
"""

import inspect
from collections.abc import Mapping, Sequence

from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from densevit.errors import ConfigError
from densevit.registry import MODELS
from densevit.structures import DataSample


@MODELS.register_module()
class DensePredictor(BaseModel):
    """One backbone, its necks in a row, one head or several by name.

    Channels, strides and the number of classes flow from the part that knows them to the part that needs them.

    Args:
        backbone: config of a backbone.
        head: config of a head, or a dict of them by name; then losses are called NAME.loss_*.
        neck: config of a neck, or a list of them in their order.
        data_preprocessor: config of the preprocessor; its defaults are ImageNet's mean and std, padding to 32.
        classes: names of the classes, from the data set; a dict by head's name where there are several heads.
    """

    def __init__(
        self,
        backbone: Mapping,
        head: Mapping,
        neck: Mapping | Sequence[Mapping] | None = None,
        data_preprocessor: Mapping | None = None,
        classes: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(MODELS.build(data_preprocessor or dict(type="Preprocessor")), init_cfg)
        self.classes = classes
        self.backbone = MODELS.build(backbone)
        maps = self.backbone
        if neck is None:
            self.neck = None
        elif isinstance(neck, Mapping):
            self.neck = maps = _plug("neck", neck, maps)
        else:
            self.neck = nn.ModuleList()
            for i, config in enumerate(neck):
                maps = _plug(f"neck[{i}]", config, maps)
                self.neck.append(maps)
        if "type" in head:
            self.head = _plug("head", head, maps, classes)
        else:
            by_name = classes if isinstance(classes, Mapping) else dict.fromkeys(head, classes)
            self.head = nn.ModuleDict(
                {name: _plug(f"head.{name}", config, maps, by_name.get(name)) for name, config in head.items()}
            )

    def extract(self, images: Tensor) -> tuple[Tensor, ...]:
        """images: (B, 3, H, W) normalised. Returns the maps that the heads see."""
        features = self.backbone(images)
        for neck in self.neck if isinstance(self.neck, nn.ModuleList) else [self.neck]:
            features = neck(features) if neck is not None else features
        return features

    def forward(self, inputs: Tensor, data_samples: list[DataSample] | None = None, mode: str = "tensor"):
        """MMEngine's signature. inputs: (B, 3, H, W) normalised and padded.

        mode 'loss': dict of losses; 'predict': the samples with their `pred_*` fields; 'tensor': what the heads'
        forward gives.
        """
        features = self.extract(inputs)
        if mode == "loss":
            return self.loss(features, data_samples)
        if mode == "predict":
            return self.predict(features, data_samples)
        return {name: head(features) for name, head in self.heads()} if self.many else self.head(features)

    @property
    def many(self) -> bool:
        """Whether the heads have names."""
        return isinstance(self.head, nn.ModuleDict)

    def heads(self) -> list[tuple[str, nn.Module]]:
        """The heads by name; a single head's name is ''."""
        return list(self.head.items()) if self.many else [("", self.head)]

    def loss(self, features: Sequence[Tensor], samples: list[DataSample]) -> dict:
        """Losses of all heads on the maps of `extract`."""
        return {
            f"{name}.{key}" if name else key: value
            for name, head in self.heads()
            for key, value in head.loss(features, samples).items()
        }

    def predict(self, features: Sequence[Tensor], samples: list[DataSample]) -> list[DataSample]:
        """The samples with the `pred_*` fields of all heads set."""
        for _, head in self.heads():
            for sample, fields in zip(samples, head.predict(features, samples), strict=True):
                sample.set_data(fields)
        return samples

    def val_step(self, data: dict) -> list:
        """The samples with predictions and, where they carry truth, one more element with the batch's losses.

        The last is what MMEngine's validation loop takes: a BaseDataElement whose only field is `loss`.
        """
        data = self.data_preprocessor(data, False)
        features = self.extract(data["inputs"])
        samples = data["data_samples"]
        has_truth = any(key.startswith("gt_") for key in samples[0].keys())  # noqa: SIM118
        losses = self.loss(features, samples) if has_truth else None
        outputs = list(self.predict(features, samples))
        if losses is not None:
            sums = {k: sum(v) if isinstance(v, (list, tuple)) else v for k, v in losses.items()}
            outputs.append(BaseDataElement(loss={**sums, "loss": sum(sums.values())}))
        return outputs


def _plug(where: str, config: Mapping, maps: nn.Module, classes: Sequence[str] | None = None) -> nn.Module:
    """Build a part on the maps that `maps` publishes; ConfigError where the config says otherwise."""
    part = MODELS.get(config["type"]) if isinstance(config["type"], str) else config["type"]
    known = dict(in_channels=maps.out_channels, in_strides=maps.out_strides)
    if part is not None and "num_classes" in inspect.signature(part).parameters:
        if classes is not None:
            known["num_classes"] = len(classes)
        elif "num_classes" not in config:
            raise ConfigError(f"model.{where} lacks num_classes: it comes from the data set, or give it in the config")
    for key, value in known.items():
        given = config.get(key)
        if given is not None and (tuple(given) if isinstance(given, (list, tuple)) else given) != value:
            raise ConfigError(f"model.{where}.{key} is {given}, but what it is built on has {value}: leave it out")
    return MODELS.build(dict(config), default_args=known)
