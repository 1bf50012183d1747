# 12 epochs of COCO at 16 images a batch: the 1x schedule of PVT's RetinaNet (Wang et al. 2021, section 5.2:
# AdamW, learning rate 1e-4, divided by 10 after epochs 8 and 11), weight decay 1e-4.
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=12, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", by_epoch=True, milestones=[8, 11], gamma=0.1),
]
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, weight_decay=1e-4),
    # no weight decay for norms, biases and position embeddings
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, custom_keys=dict(pos_embed=dict(decay_mult=0.0))),
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
