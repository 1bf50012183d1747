# UPerNet on four maps of a frozen DINOv2 ViT-S/14, CamVid: minutes on two CPU cores.
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
        out_indices=(2, 5, 8, 11),
        final_norm="all",
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth",
            sha256="b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
        ),
    ),
    neck=[dict(type="MultiLevelNeck", channels=128, scales=(1, 1, 1, 0.5)), dict(type="UPerNet", channels=128)],
    head=dict(type="FCNHead", num_convs=0, losses=dict(type="CrossEntropyLoss", class_weight=weights)),
    frozen=["backbone"],
)
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(optimizer=dict(lr=5e-3))
