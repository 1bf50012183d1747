# 184,375 steps at 64 images a step, 100 epochs of COCO: ViTDet's (Li et al. 2022, section 4: AdamW, learning rate 1e-4,
# weight decay 0.1, divided by 10 after 163,889 and 177,546 steps, warmed up over 250); layer-wise learning
# rate decay.
train_cfg = dict(type="IterBasedTrainLoop", max_iters=184_375, val_interval=5000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(type="MultiStepLR", by_epoch=False, milestones=[163_889, 177_546], gamma=0.1),
]
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, weight_decay=0.1),
    constructor="LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(decay_rate=0.7, norm_decay_mult=0.0, custom_keys=dict(pos_embed=dict(decay_mult=0.0))),
)
auto_scale_lr = dict(enable=False, base_batch_size=64)
