"""Write a folder of images and labels, in any format that densevit reads, in another format.

densevit convert-data labelme_export coco_copy --to coco
"""

import argparse

from densevit.cli.arguments import add_format


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", help="folder of images and labels")
    parser.add_argument("out", help="folder to write, which does not exist yet")
    parser.add_argument("--to", required=True, metavar="FORMAT", help="coco, yolo, voc, labelme or roboflow")
    add_format(parser)


def run(args: argparse.Namespace) -> None:
    from densevit.cli.arguments import folder_data
    from densevit.datasets.formats import write_folder
    from densevit.errors import printable

    data = folder_data(args.folder, args)
    for note in write_folder(data, args.out, args.to):
        print(printable(f"note: {note}"))
    print(printable(f"wrote {args.out}: {sum(len(split.images) for split in data.splits.values())} images"))
