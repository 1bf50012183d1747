from densevit.datasets.transforms import (  # noqa: F401
    color,
    geometry,
    kb_crop,
    loading,
    pack,
    random_crop,
    test_time_augmentation,
    torchvision_v2,
)
