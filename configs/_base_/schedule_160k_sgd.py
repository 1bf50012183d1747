# 160,000 steps of SGD, polynomial decay of the learning rate to 1e-4 with power 0.9: SETR (arXiv 2012.15840, section
# 4.1) and Segmenter (arXiv 2105.05633, section 4.2) as in mmsegmentation. The recipe sets the learning rate.
train_cfg = dict(type="IterBasedTrainLoop", max_iters=160_000, val_interval=16_000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
param_scheduler = [dict(type="PolyLR", power=0.9, eta_min=1e-4, by_epoch=False, end=160_000)]
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.001, momentum=0.9, weight_decay=0.0))
auto_scale_lr = dict(enable=False, base_batch_size=16)
