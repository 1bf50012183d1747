"""Draw ground truth and predictions of some images of a validation set side by side, in one picture.

python tools/contact_sheet.py CONFIG CHECKPOINT --data-root DIR --out sheet.png
"""

import argparse


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config file or shipped recipe")
    parser.add_argument("checkpoint", help="file of weights")
    parser.add_argument("--data-root", help="folder of the data, instead of the config's")
    parser.add_argument("--out", default="contact_sheet.png", help="picture to write (default: contact_sheet.png)")
    parser.add_argument("--images", type=int, default=12, help="number of images (default: 12)")
    parser.add_argument("--score-thr", type=float, default=0.3, help="score threshold (default: 0.3)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU where there is one)")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from densevit.errors import exit_on_user_error

    with exit_on_user_error():
        run(args)


def run(args: argparse.Namespace) -> None:
    """Predict, draw, write, and print where."""
    from mmengine.registry import init_default_scope

    from densevit.engine.config import config_files, read_config
    from densevit.errors import DataError
    from densevit.inference.predictor import Predictor
    from densevit.outputs import inputs_of, require_file
    from densevit.registry import DATASETS
    from densevit.visualization import contact_sheet, draw_ground_truth_and_prediction, write_image

    init_default_scope("densevit")  # MMEngine's dataset looks its transforms up there
    config = read_config(args.config, data_root=args.data_root)
    dataset = DATASETS.build(config.val_dataloader.dataset)
    read = [args.checkpoint, *config_files(config)]
    out = require_file(args.out, "--out", inputs_of(config, dataset, files=read))
    predictor = Predictor(config, args.checkpoint, args.device)
    names, palette = dataset.metainfo.get("classes"), dataset.metainfo.get("palette")
    if None not in (predictor.classes, names) and tuple(predictor.classes) != tuple(names):
        raise DataError(
            f"{args.checkpoint} was trained for {_some(predictor.classes)}, and the data has {_some(names)}; "
            "give the data that it was trained for."
        )
    count = min(args.images, len(dataset))
    cells = []
    for number in range(count):
        image, sample = predictor.predict_item(dataset[number * len(dataset) // count])
        cells.append(draw_ground_truth_and_prediction(image, sample, names, args.score_thr, palette=palette))
    # Two images a row where each has one pair of pictures: a sheet as wide as a screen.
    if all(len(row) == 2 for row in cells):
        cells = [left + right for left, right in zip(cells[::2], [*cells[1::2], []], strict=False)]
    write_image(out, contact_sheet(cells))
    print(f"contact sheet of {count} images: {out.resolve()}")


def _some(names) -> str:
    return f"{len(names)} classes ({', '.join(names[:3])}, ...)" if len(names) > 3 else ", ".join(names)


if __name__ == "__main__":
    main()
