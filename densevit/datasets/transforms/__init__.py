from densevit.datasets.transforms import colour, geometry, kb_crop, loading, pack, random_crop, views  # noqa: F401
