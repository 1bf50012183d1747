"""DensePredictor: preprocessor, backbone, neck(s) and head(s), nothing else. Every model of densevit is one.

The interfaces of the parts are the protocols in `densevit.models.protocols`: a part that implements one works with all
others. How an image passes through the network in prediction is a class of `densevit.inference`.

Shape letters: B images, C_i channels of a map, h_i, w_i its size, H, W size of the network's input, K channels of a
head's map, h, w its size.
"""

import inspect
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from densevit.errors import ConfigError
from densevit.kernels.check_compiler import require_compiler
from densevit.models.freezing import resolve_modules
from densevit.models.protocols import Backbone, DenseHead, FeatureMaps, Head, Inference, Neck
from densevit.registry import MODELS
from densevit.structures import DataSample


@MODELS.register_module()
class DensePredictor(BaseModel):
    """One backbone, its necks in a row, one head or several by name.

    Channels, strides and the number of classes flow from the part that knows them to the part that needs them.

    Args:
        backbone: config of a backbone.
        head: config of a head, or a dict of them by name; then losses are called NAME.loss_*. Beside its own arguments
            each may have `in_index`: which of the maps, fine to coarse from 0, it is built on; all of them without.
        neck: config of a neck, or a list of them in their order.
        data_preprocessor: config of the preprocessor; its defaults are ImageNet's mean and std, padding to 32.
        loss_weighting: config of learned weights of the heads' losses; None adds the losses as they are.
        inference: config of a class of `densevit.inference`: how an image passes through the network in prediction.
            None: WholeImage. SlidingWindow is for dense heads.
        auxiliary: configs of heads that exist in training alone, their losses called aux_0.loss_* and so on and added
            as they are. Beside its own arguments each may have `in_index`, a number or several, and `neck_index`: how
            many necks its maps have passed; 0, the default, are the backbone's own.
        frozen: what is not trained, by dotted names of parts, blocks or parameters: 'backbone', or
            ('backbone.patch_embed', 'backbone.pos_embed', 'backbone.blocks.0-5'), the blocks 0 to 5. Weights and
            running statistics stay as they are loaded, and nothing that only they need is kept for a backward pass.
        classes: names of the classes, from the dataset.
        semantic_classes: names of the semantic classes, where a dataset has both kinds.
    """

    def __init__(
        self,
        backbone: Mapping,
        head: Mapping,
        neck: Mapping | Sequence[Mapping] | None = None,
        data_preprocessor: Mapping | None = None,
        loss_weighting: Mapping | None = None,
        inference: Mapping | None = None,
        auxiliary: Sequence[Mapping] = (),
        frozen: str | Sequence[str] = (),
        classes: Sequence[str] | None = None,
        semantic_classes: Sequence[str] | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(MODELS.build(data_preprocessor or dict(type="Preprocessor")), init_cfg)
        self.classes, self.semantic_classes = classes, semantic_classes
        self.backbone: Backbone = _checked("backbone", MODELS.build(backbone), Backbone)
        levels: list[FeatureMaps] = [self.backbone]  # then neck after neck
        several = not isinstance(neck, Mapping | None)
        for i, config in enumerate(neck if several else [neck] if neck else []):
            where = f"neck[{i}]" if several else "neck"
            levels.append(_checked(where, _plug(where, config, levels[-1]), Neck))
        self.neck = nn.ModuleList(levels[1:]) if several else levels[1] if neck else None
        self.in_index: dict[str, tuple[int, ...]] = {}
        if "type" in head:
            self.head = self._build_head("", "head", head, levels[-1])
        else:
            self.head = nn.ModuleDict(
                {name: self._build_head(name, f"head.{name}", config, levels[-1]) for name, config in head.items()}
            )
        self.auxiliary = nn.ModuleList()
        self.neck_index: list[int] = []
        for i, config in enumerate(auxiliary):
            config, where = dict(config), f"auxiliary[{i}]"
            self.neck_index.append(config.pop("neck_index", 0))
            if not 0 <= self.neck_index[i] < len(levels):
                raise ConfigError(
                    f"model.{where}.neck_index is {self.neck_index[i]}, but there are {len(levels) - 1} necks: 0 is "
                    "before them"
                )
            self.auxiliary.append(self._build_head(f"aux_{i}", where, config, levels[self.neck_index[i]]))
        self.balance = (
            MODELS.build(dict(loss_weighting), default_args=dict(names=tuple(head))) if loss_weighting else None
        )
        self.inference: Inference = MODELS.build(inference or dict(type="WholeImage"))
        if self.inference.dense_heads_only:
            self.require_dense_heads("model.inference", "leave model.inference out")
        self.augmented_inference = MODELS.build(dict(type="TestTimeAugmentation"))
        names = (frozen,) if isinstance(frozen, str) else tuple(frozen)
        parts = [part for name in names for part in resolve_modules(self, name)]
        for part in parts:
            part.requires_grad_(False)
        self._frozen = [part for part in parts if isinstance(part, nn.Module)]  # a list: none of it is a child of ours

    def train(self, mode: bool = True) -> "DensePredictor":
        """As every module's, but frozen parts stay in evaluation mode."""
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self

    def compile(self, **options: Any) -> None:
        """torch.compile the backbone, the necks and the heads' forward in place; what follows a head's maps and what
        reads regions stays as it is.

        The first image makes graphs for its size, the next of another size graphs for most sizes; parts that hold
        constants of a size (windows, relative positions, UPerNet) one for each. A part that has more than dynamo's
        `recompile_limit` goes on uncompiled at further sizes.

        Args:
            options: those of torch.compile.

        Raises:
            ConfigError: this machine has nothing to build code with.
        """
        if options.get("backend", "inductor") == "inductor":
            require_compiler(next(self.parameters()).device)
        for part in (self.backbone, *self.necks(), *(head for _, head in self.heads())):
            part.compile(**options)

    def _build_head(self, name: str, where: str, config: Mapping, maps: FeatureMaps) -> Head:
        """One head on the maps that it asks for."""
        config = dict(config)
        index = config.pop("in_index", range(len(maps.out_strides)))
        index = (index,) if isinstance(index, int) else tuple(index)
        if not index or not set(index) <= set(range(len(maps.out_strides))):
            raise ConfigError(
                f"model.{where}.in_index is {index}, but there are {len(maps.out_strides)} maps: 0 is the first"
            )
        self.in_index[name] = index
        # what a head on some of the maps has to know of them
        chosen = SimpleNamespace(
            out_channels=tuple(maps.out_channels[i] for i in index),
            out_strides=tuple(maps.out_strides[i] for i in index),
        )
        return _checked(where, _plug(where, config, chosen, self.classes, self.semantic_classes), Head)

    def feature_levels(self, images: Tensor) -> list[tuple[Tensor, ...]]:
        """images: (B, 3, H, W) normalized. Returns the maps of the backbone, then those after each neck."""
        levels = [self.backbone(images)]
        for neck in self.necks():
            levels.append(neck(levels[-1]))
        return levels

    def extract_features(self, images: Tensor) -> tuple[Tensor, ...]:
        """images: (B, 3, H, W) normalized. Returns the maps that the heads take."""
        return self.feature_levels(images)[-1]

    def forward(self, inputs: Tensor, data_samples: list[DataSample] | None = None, mode: str = "tensor"):
        """MMEngine's signature. inputs: (B, 3, H, W) normalized and padded.

        mode 'loss': dict of losses; 'predict': the samples with their `pred_*` fields; 'tensor': what the heads'
        forward gives.
        """
        if mode == "predict":
            return self.inference.predict(self, inputs, data_samples)[0]
        levels = self.feature_levels(inputs)
        features = levels[-1]  # what the heads take
        if mode == "loss":
            return {**self.loss(features, data_samples), **self.auxiliary_loss(levels, data_samples)}
        outputs = {name: head(self.select_features(name, features)) for name, head in self.heads()}
        return outputs if self.many else outputs[""]

    @property
    def many(self) -> bool:
        """Whether the heads have names."""
        return isinstance(self.head, nn.ModuleDict)

    def necks(self) -> list[Neck]:
        """The necks, in their order."""
        return list(self.neck) if isinstance(self.neck, nn.ModuleList) else [self.neck] if self.neck else []

    def heads(self) -> list[tuple[str, Head]]:
        """The heads by name; a single head's name is ''."""
        return list(self.head.items()) if self.many else [("", self.head)]

    def select_features(self, name: str, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Those of the maps of `extract_features` that the head of this name is built on."""
        return tuple(features[i] for i in self.in_index[name])

    def loss(self, features: Sequence[Tensor], samples: list[DataSample]) -> dict:
        """Losses of all heads on the maps of `extract_features`."""
        return self._together(
            {name: head.loss(self.select_features(name, features), samples) for name, head in self.heads()}
        )

    def select_auxiliary_features(self, i: int, levels: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Those of the maps of `feature_levels` that auxiliary head i is built on."""
        return self.select_features(f"aux_{i}", levels[self.neck_index[i]])

    def auxiliary_loss(self, levels: Sequence[tuple[Tensor, ...]], samples: list[DataSample]) -> dict:
        """Losses of the auxiliary heads on the maps of `feature_levels`."""
        return {
            f"aux_{i}.{key}": value
            for i, head in enumerate(self.auxiliary)
            for key, value in head.loss(self.select_auxiliary_features(i, levels), samples).items()
        }

    def _together(self, by_head: dict[str, dict]) -> dict:
        """The losses of all heads, weighed against each other, under names of their own."""
        if self.balance is not None:
            by_head = self.balance(by_head)
        return {
            f"{name}.{key}" if name else key: value for name, losses in by_head.items() for key, value in losses.items()
        }

    def predict(self, features: Sequence[Tensor], samples: list[DataSample]) -> list[DataSample]:
        """The samples with the `pred_*` fields of all heads set, from the maps of `extract_features`."""
        for name, head in self.heads():
            self.fill(head, samples, head.predict(self.select_features(name, features), samples))
        return samples

    def dense_maps(self, images: Tensor) -> dict[str, Tensor]:
        """The maps (B, K, h, w) that the dense heads predict for images (B, 3, H, W), in one pass: by head, float32."""
        features = self.extract_features(images)
        return {name: head(self.select_features(name, features)).float() for name, head in self.heads()}

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        """The dense heads' maps (B, K, H, W) of images (B, 3, H, W), by way of `inference`."""
        maps = self.inference.maps(self, images)
        return {name: head.enlarge(maps[name], images.shape[2:]) for name, head in self.heads()}

    def loss_of_maps(self, maps: Mapping[str, Tensor], samples: list[DataSample]) -> dict:
        """Losses of the dense heads' maps, which cover the network's input."""
        return self._together({name: head.loss_by_feat(maps[name], samples) for name, head in self.heads()})

    def predict_from_maps(self, maps: Mapping[str, Tensor], samples: list[DataSample]) -> list[DataSample]:
        """The samples with the `pred_*` fields set, from maps (B, K, H, W) at the size of the network's input."""
        for name, head in self.heads():
            self.fill(head, samples, head.rescale_fields(maps[name], samples))
        return samples

    def fill(self, head: Head, samples: list[DataSample], fields: Sequence[Mapping]) -> None:
        """Put what a head predicts into the samples, and its metadata."""
        for sample, predicted in zip(samples, fields, strict=True):
            sample.set_data(predicted)
            sample.set_metainfo(head.metadata)

    def require_dense_heads(self, what: str, way: str) -> None:
        """ConfigError where a head predicts no map."""
        for name, part in self.heads():
            if not isinstance(part, DenseHead):
                where = f"head.{name}" if name else "head"
                raise ConfigError(
                    f"{what} puts maps together, and model.{where}, a {type(part).__name__}, predicts none: {way}."
                )

    def test_step(self, data: dict) -> list:
        """The samples with predictions; of several versions of each image their mean."""
        if _is_augmented(data):
            return self.augmented_inference.predict(self, data["inputs"], data["data_samples"])
        return super().test_step(data)

    def val_step(self, data: dict) -> list:
        """The samples with predictions and, where they carry ground truth, one more element with the batch's losses.

        The last is what MMEngine's validation loop takes: a BaseDataElement whose only field is `loss`. Auxiliary heads
        have no part in it.
        """
        if _is_augmented(data):
            return self.test_step(data)
        data = self.data_preprocessor(data, False)
        samples = data["data_samples"]
        has_gt = any(key.startswith("gt_") for key in samples[0].keys())  # noqa: SIM118
        outputs, losses = self.inference.predict(self, data["inputs"], samples, has_gt)
        if losses is None:
            return outputs
        sums = {k: sum(v) if isinstance(v, (list, tuple)) else v for k, v in losses.items()}
        return [*outputs, BaseDataElement(loss={**sums, "loss": sum(sums.values())})]


def _is_augmented(data: Mapping) -> bool:
    """Whether a batch is several views of each image."""
    return isinstance(data["inputs"][0], (list, tuple))


def _checked(where: str, part: nn.Module, protocol: type) -> nn.Module:
    """The part; ConfigError where it does not inherit its protocol, whose defaults are needed."""
    if protocol not in type(part).__mro__:
        raise ConfigError(
            f"model.{where} is a {type(part).__name__}, which does not inherit densevit.models.protocols."
            f"{protocol.__name__}: add it to the bases of the class, and define what has no default there."
        )
    return part


def _plug(
    where: str,
    config: Mapping,
    maps: FeatureMaps,
    classes: Sequence[str] | None = None,
    semantic_classes: Sequence[str] | None = None,
) -> Neck | Head:
    """Build a part on the maps that `maps` publishes; ConfigError where the config states others."""
    part = MODELS.get(config["type"]) if isinstance(config["type"], str) else config["type"]
    known = dict(in_channels=tuple(maps.out_channels), in_strides=tuple(maps.out_strides))
    if semantic_classes is not None and part is not None and Head in part.__mro__ and part.semantic:
        classes = semantic_classes
    if part is not None and "num_classes" in inspect.signature(part).parameters:
        if classes is not None:
            known["num_classes"] = len(classes)
        elif "num_classes" not in config:
            raise ConfigError(f"model.{where} lacks num_classes: it comes from the dataset, or give it in the config")
    for key, value in known.items():
        given = config.get(key)
        if given is not None and (tuple(given) if isinstance(given, (list, tuple)) else given) != value:
            raise ConfigError(f"model.{where}.{key} is {given}, but what it is built on has {value}: leave it out")
    return MODELS.build(dict(config), default_args=known)
