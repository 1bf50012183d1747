# How a run is logged, saved and started; the same for every recipe.
default_scope = "densevit"
work_dir = None  # work_dirs/<name of the config>
log_level = "INFO"
load_from = None
resume = False
randomness = dict(seed=0)

# options for the command line: --cfg-options ema=True
amp = False  # bf16 autocast, on CPU and GPU (also --amp)
ema = False  # evaluate and save an exponential moving average of the weights; or dict(momentum=0.0002)
channels_last = False  # the memory format of convolutions that is faster on CPUs (and GPUs with amp)
tensorboard = False  # also write TensorBoard files

default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    checkpoint=dict(type="CheckpointHook", max_keep_ckpts=3, save_best="auto"),  # each epoch, or each validation
)
env_cfg = dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0))
log_processor = dict(type="LogProcessor", window_size=50)
visualizer = dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend")])
