# UPerNet on four maps of a frozen DINOv2 ViT-S/14, CamVid: minutes on two CPU cores.
# No published result: 123 images of CamVid. Weights: github.com/facebookresearch/dinov2.
_base_ = ["_base_/camvid.py", "_base_/schedule_camvid.py", "_base_/runtime.py"]

model = dict(
    type="DensePredictor",
    data_preprocessor=dict(type="Preprocessor", size_divisor=14),
    backbone=dict(
        type="ViT",
        arch="small",
        patch_size=14,
        img_size=518,
        layer_scale=1e-5,
        out_indices=(2, 5, 8, 11),
        final_norm="all",
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth",
        ),
    ),
    neck=[dict(type="MultiLevelNeck", channels=128, scales=(2, 1, 1, 0.5)), dict(type="UPerNet", channels=128)],
    head=dict(type="FCNHead", num_convs=0),
    frozen=["backbone"],
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
