# 25 epochs at 16 images a step, learning rate 1e-4 and a tenth of it for the pretrained backbone, polynomial decay to 0
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=25, val_interval=5)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=500),
    dict(type="PolyLR", power=0.9, eta_min=0.0, by_epoch=True, convert_to_iter_based=True, end=25),
]
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, weight_decay=0.01),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys=dict(backbone=dict(lr_mult=0.1))),
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
