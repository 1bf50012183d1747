"""Predict on photographs and videos: boxes, masks, semantic classes, depth, drawn and as JSON.

densevit predict IMAGE|FOLDER|'GLOB'|VIDEO scenes                      a model that comes with densevit
densevit predict IMAGE|FOLDER|'GLOB'|VIDEO CONFIG --weights CHECKPOINT

Each image gives a picture and a .json file, each video a .mp4 and a .jsonl file with one line a frame.

Models of depth also write it as NAME_depth.png or .npy (--depth-out) and, where a camera is given, as points:
densevit predict ROOM.jpg CONFIG --weights CHECKPOINT --ply --intrinsics 518.9 519.5 325.6 253.7
"""

import argparse

from densevit.cli import predict_depth
from densevit.cli.arguments import add_compile

MIN_SIZE = 320  # pixels: smaller images are enlarged, so that names can be read


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", help="an image, a video, a folder of images, or a pattern such as 'photos/*.jpg'")
    parser.add_argument(
        "config", nargs="?", help="config file, shipped recipe or shipped model ('scenes'); not for mmdetection's"
    )
    parser.add_argument(
        "--weights", help="checkpoint: ours, or one that densevit can import; a shipped model has its own"
    )
    parser.add_argument("--out-dir", default="outputs", help="folder for pictures and JSON (default: outputs)")
    parser.add_argument("--score-thr", type=float, default=0.3, help="score threshold (default: 0.3)")
    parser.add_argument(
        "--tile", type=int, metavar="PIXELS", help="predict large images in overlapping tiles of this side"
    )
    parser.add_argument(
        "--overlap", type=int, metavar="PIXELS", help="least overlap of the tiles (default: a quarter of a tile)"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU where there is one)")
    add_compile(parser)
    predict_depth.add_options(parser)


def run(args: argparse.Namespace) -> None:
    """Predict, draw and write one image after the other; a broken one among several is named and left out."""
    import sys

    from densevit.engine.malloc import keep_freed_memory
    from densevit.errors import DataError, printable
    from densevit.inference.images import images_under, left_out
    from densevit.inference.predictor import Predictor
    from densevit.inference.video import is_video

    keep_freed_memory()
    images = images_under(args.images)
    if others := left_out(args.images, images):
        print(printable(others), file=sys.stderr)
    args.camera = predict_depth.camera(args, [image for image in images if is_video(image)])
    targets = locations(images, args)
    predictor = Predictor(args.config, args.weights, args.device, args.compile)
    print(predictor.load_report)
    broken = 0
    for image, target in zip(images, targets, strict=True):
        try:
            said = film(predictor, image, target, args) if is_video(image) else picture(predictor, image, target, args)
        except DataError as error:
            if len(images) == 1:
                raise
            print(f"left out: {error}", file=sys.stderr)
            broken += 1
            continue
        print(printable(f"{image}: {said}"))
    if len(images) > 1:
        print(f"{len(images) - broken} of {len(images)} images done, {broken} left out as unreadable -> {args.out_dir}")
    if broken == len(images):
        raise DataError(f"none of the {len(images)} images of {args.images} can be read.")


def locations(images: list, args: argparse.Namespace) -> list:
    """The picture to write for each image: its name in --out-dir, numbered where two images share one."""
    from densevit.errors import ConfigError
    from densevit.inference.video import is_video
    from densevit.outputs import Inputs, check_file, files_of, require_folder, safe_name

    given = [path for path in (args.config, args.weights, *(args.intrinsics or ())) if path]
    inputs = files_of(*images, *given)
    folder = require_folder(args.out_dir, "--out-dir", Inputs(list))
    taken, targets = set(), []
    for image in images:
        suffix = image.suffix.lower() if image.suffix.lower() in (".jpg", ".jpeg", ".png") else ".png"
        suffix = ".mp4" if is_video(image) else suffix
        name, number = safe_name(image.stem), 1
        stem = name
        while stem in taken:
            number += 1
            stem = f"{name}_{number}"
        taken |= {stem, f"{stem}_depth", f"{stem}_cloud"}
        targets.append(folder / f"{stem}{suffix}")
        for ending in (suffix, ".json", ".jsonl", ".ply", "_depth.png", "_depth.npy", "_cloud.png"):
            check_file(folder / f"{stem}{ending}", "--out-dir: the file", inputs)
        if args.depth_out and is_video(image):
            maps = require_folder(folder / f"{stem}_depth", "--out-dir: the folder", Inputs(list))
            if maps in Inputs(lambda: [i.parent for i in images]):
                raise ConfigError(f"--out-dir: the folder {str(maps)!r} holds the images: choose another --out-dir.")
    return targets


def picture(predictor, image, target, args: argparse.Namespace) -> str:
    """Predict, write the picture and the JSON beside it; what is in them and where, in words."""
    import json

    from densevit.visualization import write_image

    found = predictor(image, args.score_thr, args.tile, args.overlap)
    limits = predict_depth.limits_for(found, args.depth_range)
    extra = predict_depth.points(found, target, args)
    extra += predict_depth.depth_files(found, target.with_name(f"{target.stem}_depth"), args)
    write_image(target, found.draw(args.score_thr, MIN_SIZE, limits)[..., ::-1])
    content = found.to_dict(args.score_thr)
    target.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
    said = [f"{len(content['objects'])} objects"] if "pred_instances" in found else []
    if "classes" in content:
        said.append(f"{len(content['classes'])} semantic classes")
    depth = content.get("depth", {})
    if depth.get("median") is not None:
        meters = f"depth {depth['min']:.1f} to {depth['max']:.1f} m"
        said.append(meters if depth["kind"] == "metric" else "relative depth (no unit, larger is nearer)")
    written = [target, target.with_suffix(".json"), *extra]
    return f"{', '.join(said) or 'nothing'} -> {', '.join(map(str, written))}"


def film(predictor, video, target, args: argparse.Namespace) -> str:
    """Predict and write frame by frame; how many frames and where, in words. Ctrl-C ends it with what is done."""
    import json
    import sys

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from densevit.inference.video import VideoReader, VideoWriter
    from densevit.visualization import SmoothedRange

    frames, lines = VideoReader(video), target.with_suffix(".jsonl")
    if args.tile is None:
        # one by one on a CPU, where a batch gains nothing: each frame is written as soon as it is done
        found = predictor.batch(frames, args.score_thr, size=8 if predictor.device.type == "cuda" else 1)
    else:
        found = (predictor(frame, args.score_thr, args.tile, args.overlap) for frame in frames)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress, done = Progress(*columns, console=Console(stderr=True), transient=True), 0
    maps, steady = target.with_name(f"{target.stem}_depth"), None
    with VideoWriter(target, frames.rate) as writer, lines.open("w") as file, progress as bar:
        task = bar.add_task(video.name, total=frames.count)
        try:
            for one in found:
                limits = predict_depth.limits_for(one, args.depth_range)
                if limits is None and one.depth is not None:
                    steady = steady or SmoothedRange(one.depth_kind, 2 * frames.rate)
                    limits = steady(one.depth)
                predict_depth.depth_files(one, maps / f"{done:06d}", args)
                drawn = one.draw(args.score_thr, MIN_SIZE, limits)
                content = {**one.to_dict(args.score_thr), "image": str(video), "frame": done}
                content["seconds"] = round(frames.seconds[done], 3)
                line = json.dumps(content) + "\n"
                # both at once, so that an interrupt hardly comes between them
                writer.write(drawn, frames.seconds[done])
                file.write(line)
                done += 1
                bar.advance(task)
        except KeyboardInterrupt:
            print(f"stopped: {video} after {done} of {frames.count or '?'} frames -> {target}", file=sys.stderr)
            raise SystemExit(130) from None
    stated = "" if frames.count in (None, done) else f" of {frames.count}"
    folder = f", {maps}/" if args.depth_out else ""
    return f"{done}{stated} frames at {frames.rate:g} a second -> {target}, {lines}{folder}"
