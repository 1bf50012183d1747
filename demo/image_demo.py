"""Look at photographs: what the model finds (boxes, classes of pixels, depth) as a picture and a JSON file for each.

python demo/image_demo.py IMAGE|FOLDER|'GLOB' scenes                        a model that comes with densevit
python demo/image_demo.py IMAGE|FOLDER|'GLOB' CONFIG --weights CHECKPOINT
"""

import argparse


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", help="an image, a folder of images, or a pattern such as 'photos/*.jpg'")
    parser.add_argument(
        "config", nargs="?", help="config file, shipped recipe or shipped model ('scenes'); not for mmdetection's"
    )
    parser.add_argument(
        "--weights", help="checkpoint: ours, or one that densevit can import; a shipped model has its own"
    )
    parser.add_argument("--out-dir", default="outputs", help="folder for pictures and JSON (default: outputs)")
    parser.add_argument("--score-thr", type=float, default=0.3, help="leave out what scores less (default: 0.3)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU where there is one)")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from densevit.errors import exit_on_user_error

    with exit_on_user_error():
        run(args)


def run(args: argparse.Namespace) -> None:
    """Predict, draw and write one image after the other; a broken one among several is named and left out."""
    import sys

    from densevit.errors import DataError
    from densevit.predictor import Predictor, images_under

    images = images_under(args.images)
    targets = places(images, args.out_dir)
    predictor = Predictor(args.config, args.weights, args.device)
    print(predictor.receipt)
    broken = 0
    for image, target in zip(images, targets, strict=True):
        try:
            found = predictor(image)
        except DataError as error:
            if len(images) == 1:
                raise
            print(f"left out: {error}", file=sys.stderr)
            broken += 1
            continue
        said = write(found, target, args.score_thr)
        print(f"{image}: {said} -> {target}, {target.with_suffix('.json')}")
    if len(images) > 1:
        print(f"{len(images) - broken} of {len(images)} images done, {broken} left out as unreadable -> {args.out_dir}")
    if broken == len(images):
        raise DataError(f"none of the {len(images)} images of {args.images} can be read.")


def places(images: list, out_dir: str) -> list:
    """The picture to write for each image: its name in `out_dir`, numbered where two images share one."""
    from pathlib import Path

    from densevit.errors import ConfigError

    originals = {image.resolve() for image in images}
    taken, targets = set(), []
    for image in images:
        suffix = image.suffix.lower() if image.suffix.lower() in (".jpg", ".jpeg", ".png") else ".png"
        stem, number = image.stem, 1
        while stem in taken:
            number += 1
            stem = f"{image.stem}_{number}"
        taken.add(stem)
        targets.append(Path(out_dir) / f"{stem}{suffix}")
        if targets[-1].resolve() in originals:
            raise ConfigError(
                f"--out-dir {out_dir} holds the images themselves, which would be overwritten; give another."
            )
    return targets


def write(found, target, score_thr: float) -> str:
    """Write the picture and the JSON beside it; what is in them, in words."""
    import json

    from densevit.visualization import write_image

    write_image(target, found.draw(score_thr, least_side=320)[..., ::-1])
    content = found.to_json(score_thr)
    target.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
    said = [f"{len(content['objects'])} objects"] if "pred_instances" in found else []
    if "classes" in content:
        said.append(f"{len(content['classes'])} classes of pixels")
    if content.get("depth", {}).get("median") is not None:
        said.append(f"depth {content['depth']['min']:.1f} to {content['depth']['max']:.1f} m")
    return ", ".join(said) or "nothing"


if __name__ == "__main__":
    main()
