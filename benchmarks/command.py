"""Measure speed and memory, alone or compared with another project on the same weights and input.

  benchmark.py model pvt_retinanet_coco --size 800x1216 --vs mmdet --peer-python peer/bin/python
  benchmark.py model swin_tiny_patch4_window7_224 --size 512x512 --vs timm
  benchmark.py model depth-anything-small --size 518x518 --vs transformers --dtype bf16
  benchmark.py train-step pvt_retinanet_coco --size 512x640 --batch 2 --vs mmdet --peer-python peer/bin/python
  benchmark.py data pvt_retinanet_coco --data-root data/coco/ --vs mmdet --peer-python peer/bin/python
  benchmark.py eval
  benchmark.py import --vs mmdet --peer-python peer/bin/python

Each project runs in a process of its own with the same number of threads; both stay alive and run alternately. The peer
initializes the weights, ours are read from its file, and the outputs of both are compared before anything is timed. A
ratio is the peer's time over ours: median and quartiles of the rounds.

The peers come from PyPI. timm, torchvision and transformers may share densevit's environment; the others need older
packages and an environment of their own:

  mmdet   python -m venv peer && peer/bin/pip install torch torchvision mmengine==0.10.7 mmcv-lite==2.1.0 \\
          'setuptools<81' mmdet==3.3.0
  mmseg   the same with mmsegmentation==1.2.2 ftfy regex instead of mmdet

mmcv-lite has no compiled operators: torchvision's nms and roi_align replace mmcv's.
"""

import argparse

PEERS = ("mmdet", "mmseg", "timm", "transformers", "torchvision", "densevit")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    model = kinds.add_parser("model", help="a prediction, from images to results")
    model.add_argument("--train", action="store_true", help="a training step instead of a prediction")
    step = kinds.add_parser("train-step", help="a training step: losses, backward pass, optimizer")
    for part in (model, step):
        part.add_argument(
            "config", help="recipe; or with --vs timm, transformers, torchvision the name of a model there"
        )
        part.add_argument("--size", default="800x1216", metavar="HxW", help="network's input; default 800x1216")
        part.add_argument("--batch", type=_positive, default=1, metavar="N", help="images; default 1")
        part.add_argument("--dtype", choices=["float32", "bf16"], default="float32", help="bf16: with autocast")
        part.add_argument("--compile", action="store_true", help="torch.compile ours")
        part.add_argument("--peer-compile", action="store_true", help="torch.compile the peer's")
        part.add_argument("--device", default="cpu", help="'cpu' (default), 'cuda', ...")
        part.add_argument("--peer-model", metavar="NAME", help="the peer's model, where it does not follow from config")
        part.add_argument(
            "--cfg-options", nargs="+", action="extend", metavar="KEY=VALUE", help="override config values"
        )
        _pair(part, PEERS)
        _repeated(part, 7)
    data = kinds.add_parser("data", help="images per second of one worker through the training pipeline")
    data.add_argument("config", help="recipe")
    data.add_argument("--data-root", metavar="DIR", help="folder of the data, overrides the config's")
    data.add_argument("--images", type=_positive, default=100, metavar="N", help="images per round; default 100")
    data.add_argument("--peer-model", metavar="NAME", help="the peer's config file, where it does not follow")
    data.add_argument("--cfg-options", nargs="+", action="extend", metavar="KEY=VALUE", help="override config values")
    _pair(data, ("mmdet", "mmseg"))
    _repeated(data, 5)
    evaluation = kinds.add_parser("eval", help="COCO metrics of boxes and masks, against pycocotools")
    evaluation.add_argument("--images", type=_positive, default=1000, metavar="N", help="default 1000")
    evaluation.add_argument("--detections", type=_positive, default=100, metavar="N", help="per image; default 100")
    evaluation.add_argument("--backend", default="auto", help="of CocoMetric; default: the fastest that is installed")
    _repeated(evaluation, 3)
    start = kinds.add_parser("import", help="the time to import the package")
    _pair(start, ("mmdet", "mmseg"))
    _repeated(start, 5)
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def _pair(parser: argparse.ArgumentParser, peers: tuple[str, ...]) -> None:
    parser.add_argument("--vs", choices=peers, metavar="PEER", help=f"one of {', '.join(peers)}")
    parser.add_argument("--peer-python", metavar="PATH", help="python of the peer's environment; default: this one")


def _repeated(parser: argparse.ArgumentParser, rounds: int) -> None:
    parser.add_argument("--rounds", type=_positive, default=rounds, metavar="N", help=f"default {rounds}")
    parser.add_argument("--threads", type=_positive, metavar="N", help="of each process; default: all cores")
    beside = "another process on the same cores: a loop of Python, or 256x256 matrix products on two torch threads"
    parser.add_argument("--beside", choices=["busy", "torch"], help=beside)


def main() -> None:
    args = parse_args()
    from benchmarks.background_load import background_load
    from densevit.errors import exit_on_user_error

    with exit_on_user_error(), background_load(getattr(args, "beside", None)):
        {"model": _model, "train-step": _model, "data": _data, "eval": _eval, "import": _import}[args.kind](args)


def _model(args: argparse.Namespace) -> None:
    from benchmarks.model import measure_model, parse_size
    from benchmarks.report import model_report
    from densevit.engine.config import parse_options

    found = measure_model(
        args.config,
        parse_size(args.size),
        args.batch,
        args.dtype,
        compiled=args.compile,
        training=args.kind == "train-step" or args.train,
        peer=args.vs,
        peer_model=args.peer_model,
        peer_python=args.peer_python,
        peer_compiled=args.peer_compile,
        threads=args.threads,
        device=args.device,
        rounds=args.rounds,
        options=parse_options(args.cfg_options),
    )
    print(model_report(found, args.vs))


def _data(args: argparse.Namespace) -> None:
    from benchmarks.pipeline import measure_pipeline
    from benchmarks.report import rate_report
    from densevit.engine.config import parse_options

    options = parse_options(args.cfg_options)
    ratio, ours = measure_pipeline(
        args.config, args.data_root, args.images, args.vs, args.peer_model, args.peer_python, args.rounds, options
    )
    print(rate_report(ratio, ours, args.vs, "images per second and worker"))


def _eval(args: argparse.Namespace) -> None:
    from benchmarks.evaluation import measure_evaluation
    from benchmarks.report import time_report

    ratio = measure_evaluation(args.images, args.detections, args.backend, args.rounds, args.threads)
    print(time_report(ratio, "pycocotools"))


def _import(args: argparse.Namespace) -> None:
    from benchmarks.import_time import measure_import
    from benchmarks.report import time_report

    for statement, ratio in measure_import(args.vs or "mmdet", args.peer_python, args.rounds).items():
        print(statement)
        print(time_report(ratio, args.vs or "mmdet"))
