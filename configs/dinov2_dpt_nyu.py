# Metric depth of Depth-Anything V2's architecture on DINOv2 ViT-S/14, NYU Depth V2. Published for ViT-L from
# Depth-Anything V1's weights (delta1 / abs rel / rmse): 0.984 / 0.056 / 0.206 (arXiv 2401.10891).
# base: arch="base", channels (96, 192, 384, 768), 128; large: blocks 4, 11, 17, 23, (256, 512, 1024, 1024), 256.
_base_ = ["_base_/nyu.py", "_base_/schedule_depth.py", "_base_/runtime.py"]

model = dict(
    type="DensePredictor",
    data_preprocessor=dict(type="Preprocessor", size_divisor=14),
    backbone=dict(
        type="ViT",
        arch="dinov2_small",
        out_indices=(2, 5, 8, 11),
        final_norm="all",
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth",
            sha256="b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
        ),
    ),
    neck=[dict(type="DPTReassemble", channels=(48, 96, 192, 384)), dict(type="DPTFusion", channels=64)],
    head=dict(type="DPTDepthHead", kind="sigmoid", max_depth=10.0, align_corners=True),
)
