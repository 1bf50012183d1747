from densevit.datasets.transforms import colour, geometry, loading, pack, random_crop, views  # noqa: F401
