# 67,500 steps at 64 images a step, 36 epochs of COCO: MViTv2 detectors (Li et al. 2022, arXiv 2112.01526, section 5.2:
# AdamW, learning rate 1.6e-4, weight decay 0.1, divided by 10 after 52,500 and 62,500 steps, warmed up over 250).
train_cfg = dict(type="IterBasedTrainLoop", max_iters=67_500, val_interval=5000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(type="MultiStepLR", by_epoch=False, milestones=[52_500, 62_500], gamma=0.1),
]
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1.6e-4, weight_decay=0.1),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys=dict(
            pos_embed=dict(decay_mult=0.0),
            rel_pos_h=dict(decay_mult=0.0),
            rel_pos_w=dict(decay_mult=0.0),
        ),
    ),
)
auto_scale_lr = dict(enable=False, base_batch_size=64)
