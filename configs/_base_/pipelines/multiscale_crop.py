# DETR's multi-scale training (arXiv 2005.12872, appendix A.4), also that of Sparse R-CNN, Swin, MViTv2 and ViT-Adapter:
# half of the images are resized to one of eleven sizes; the others are resized to one of three sizes and cropped first.
# These are the parts; the dataset files put them together, each with its own limit of the long side.
short_sides = dict(
    type="RandomChoiceResize",
    scales=[
        (1333, 480), (1333, 512), (1333, 544), (1333, 576), (1333, 608), (1333, 640),
        (1333, 672), (1333, 704), (1333, 736), (1333, 768), (1333, 800),
    ],
)  # fmt: skip
random_crop = dict(type="RandomCrop", size=(384, 600), size_type="absolute_range", allow_empty=True)
