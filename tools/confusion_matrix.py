"""Draw the confusion matrix of a test of semantic classes, and print the greatest confusions.

python tools/confusion_matrix.py work_dirs/pvt_fpn_ade20k/confusion_matrix.json --out confusion.png
"""

import argparse
from pathlib import Path


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("matrix", type=Path, help="confusion_matrix.json, which tools/test.py writes into the work dir")
    parser.add_argument("--out", type=Path, default=Path("confusion_matrix.png"), help="picture to write")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from densevit.errors import exit_on_user_error, printable

    with exit_on_user_error():
        from densevit.outputs import files_of, require_file
        from densevit.visualization.confusion_matrix import draw_confusion_matrix, greatest_confusions, read_matrix

        require_file(args.out, "--out", files_of(args.matrix))
        matrix, names = read_matrix(args.matrix)
        for true, taken, share, pixels in greatest_confusions(matrix, names):
            print(printable(f"{share:6.1%} of {true} is taken for {taken} ({pixels} pixels)"))
        draw_confusion_matrix(matrix, names, args.out)
        print(f"{len(names)} classes: {args.out}")


if __name__ == "__main__":
    main()
