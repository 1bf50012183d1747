from densevit.datasets import coco  # noqa: F401
