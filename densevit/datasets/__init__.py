from densevit.datasets import coco, depth, semantic  # noqa: F401
from densevit.datasets.scenes import dataset  # noqa: F401
