# A linear classifier on the last map of a frozen DINOv2 ViT-S/14 (linear probing), CamVid: minutes on two CPU cores.
# No published result for these 123 images. Weights: github.com/facebookresearch/dinov2.
_base_ = ["_base_/camvid.py", "_base_/schedule_camvid.py", "_base_/runtime.py"]

# (pixels of all classes / pixels of the class) ** 0.25 in the 123 training images, normalized to a mean of 1
weights = [0.62, 0.57, 1.26, 0.53, 0.87, 0.72, 1.22, 1.23, 0.81, 1.39, 1.77]
model = dict(
    type="DensePredictor",
    data_preprocessor=dict(type="Preprocessor", size_divisor=14),
    backbone=dict(
        type="ViT",
        arch="small",
        patch_size=14,
        img_size=518,
        block=dict(layer_scale=1e-5),
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth",
            sha256="b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
        ),
    ),
    head=dict(type="FCNHead", num_convs=0, dropout=0.0, losses=dict(type="CrossEntropyLoss", class_weight=weights)),
    frozen=["backbone"],
)
