# Segmenter's mask transformer on DINOv2's ViT-S with patches of 16, ADE20K, 512x512, 160k steps. No published result
# for this combination; a linear classifier on the frozen ViT-S/14 gives 44.3 mIoU (arXiv 2304.07193, table 10).
# base and large: arch=..., the weights of that size. Frozen backbone: --cfg-options model.frozen=backbone
_base_ = ["_base_/ade20k.py", "_base_/schedule_160k.py", "_base_/runtime.py"]

model = dict(
    type="DensePredictor",
    data_preprocessor=dict(type="Preprocessor", size_divisor=1, train_size=(512, 512)),
    backbone=dict(
        type="ViT",
        arch="small",
        img_size=512,
        block=dict(layer_scale=1.0),
        drop_path_rate=0.1,
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth",
            sha256="b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
        ),
    ),
    head=dict(type="SegmenterHead", losses=dict(type="CrossEntropyLoss", avg_non_ignore=False)),
    inference=dict(type="SlidingWindow", window=512, stride=341),
)
optim_wrapper = dict(constructor="LayerDecayOptimWrapperConstructor", paramwise_cfg=dict(decay_rate=0.8))
