# 36 epochs of COCO at 16 images a batch: the 3x schedule of Swin's detectors (Liu et al. 2021, section 4.2:
# AdamW, learning rate 1e-4, divided by 10 after epochs 27 and 33, weight decay 0.05).
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=36, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type="MultiStepLR", by_epoch=True, milestones=[27, 33], gamma=0.1),
]
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, weight_decay=0.05),
    # no weight decay for norms, position embeddings and biases, and Swin V2's position MLP and logit scale
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys=dict(
            pos_embed=dict(decay_mult=0.0),
            relative_position_bias_table=dict(decay_mult=0.0),
            cpb_mlp=dict(decay_mult=0.0),
            logit_scale=dict(decay_mult=0.0),
        ),
    ),
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
