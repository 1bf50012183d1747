# DPT with metric depth on ViT-L/16, KITTI, Eigen's split. Published for DPT-Hybrid, which has another backbone
# (delta1 / abs rel / rmse): 0.959 / 0.062 / 2.573 (arXiv 2103.13413; pretrained on 1.4 million images with depth).
_base_ = ["_base_/kitti.py", "_base_/schedule_depth.py", "_base_/runtime.py"]

model = dict(
    type="DensePredictor",
    backbone=dict(
        type="ViT",
        arch="large",
        img_size=384,
        out_indices=(5, 11, 17, 23),
        final_norm=None,
        tokens=dict(append_cls=True),
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-vitjx/jx_vit_large_p16_384-b3be5167.pth",
        ),
    ),
    neck=[dict(type="DPTReassemble", readout="project"), dict(type="DPTFusion")],
    head=dict(type="DPTDepthHead", kind="sigmoid", max_depth=80.0),
)
