"""What `densevit predict` writes of depth beside the picture: maps as PNG and NPY, point clouds, views of these."""

import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    depth = parser.add_argument_group("depth")
    depth.add_argument(
        "--depth-out",
        choices=["png", "npy", "both"],
        help="write depth maps: 16-bit PNG (0 = none; relative depth is stretched), float32 NPY",
    )
    depth.add_argument(
        "--depth-scale", type=float, metavar="N", help="numbers a meter in the PNG (default: 1000; KITTI has 256)"
    )
    depth.add_argument(
        "--depth-range",
        type=float,
        nargs=2,
        metavar=("NEAR", "FAR"),
        help="ends of the colors in meters (default: each image's own; videos: followed slowly)",
    )
    depth.add_argument("--ply", action="store_true", help="write NAME.ply, the pixels as colored points in meters")
    depth.add_argument("--cloud-view", action="store_true", help="write NAME_cloud.png, the points seen from aside")
    depth.add_argument(
        "--intrinsics",
        nargs="+",
        metavar="FX FY CX CY",
        help="camera of the points in pixels of the image, or a file with these numbers or its matrix",
    )


def camera(args: argparse.Namespace, videos: list) -> tuple | None:
    """(fx, fy, cx, cy) of --intrinsics; what is asked for of depth is looked over before a model is loaded."""
    from densevit.errors import ConfigError
    from densevit.ops.depth_files import check_scale
    from densevit.ops.point_cloud import read_intrinsics

    if args.depth_scale is not None:
        check_scale(args.depth_scale)
        if args.depth_out not in ("png", "both"):
            raise ConfigError("--depth-scale is of PNG maps of depth: ask for these, too (--depth-out png).")
    asked = "--ply" if args.ply else "--cloud-view" if args.cloud_view else None
    if asked is None:
        if args.intrinsics:
            raise ConfigError("--intrinsics are of points: say what to write, --ply, --cloud-view or both.")
        return None
    if not args.intrinsics:
        raise ConfigError(
            f"{asked} needs the camera: --intrinsics FX FY CX CY, its focal lengths and principal point in pixels of "
            "the image, or a file that states them (KITTI's calib, a 3x3 matrix, JSON); an unknown telephone's are "
            "about 0.75 x the longer side twice, and half the width and half the height."
        )
    if videos:
        raise ConfigError(f"{asked} makes points of images, and {videos[0]} is a video; give some of its frames.")
    if len(args.intrinsics) == 1:
        return read_intrinsics(args.intrinsics[0])
    try:
        fx, fy, cx, cy = map(float, args.intrinsics)
    except ValueError:
        raise ConfigError(
            f"--intrinsics takes four numbers, FX FY CX CY, or one file, not {' '.join(args.intrinsics)}."
        ) from None
    return fx, fy, cx, cy


def limits_for(found, asked: list | None) -> tuple | None:
    """--depth-range as the ends of the colors of what was found."""
    from densevit.errors import ConfigError

    if asked is None:
        return None
    if found.depth is None:
        raise ConfigError("--depth-range is of models of depth, and this one predicts none; leave it out.")
    near, far = asked
    if found.depth_kind == "relative" and not near > far:
        raise ConfigError(
            f"--depth-range {near:g} {far:g}: this model's depth is relative, larger is nearer: give NEAR > FAR."
        )
    if found.depth_kind != "relative" and not 0 < near < far < float("inf"):
        raise ConfigError(f"--depth-range {near:g} {far:g}: distances in meters are 0 < NEAR < FAR.")
    return near, far


def depth_files(found, stem, args: argparse.Namespace) -> list[str]:
    """Write the depth map as --depth-out says, `stem` and an ending; the files and what of them is to be known."""
    from densevit.errors import ConfigError
    from densevit.ops.depth_files import MOST, write_depth

    if args.depth_out is None:
        return []
    if found.depth is None:
        raise ConfigError(f"--depth-out {args.depth_out}: this model predicts no depth; leave it out.")
    written, scale = [], args.depth_scale or 1000.0
    for ending in ("png", "npy") if args.depth_out == "both" else (args.depth_out,):
        path = stem.with_name(f"{stem.name}.{ending}")
        cut = write_depth(path, found.depth, found.depth_kind, scale)
        beyond = f" ({cut} pixels are farther than its {MOST / scale:g} m and set to that)" if cut else ""
        written.append(f"{path}{beyond}")
    return written


def points(found, target, args: argparse.Namespace) -> list[str]:
    """Write the point cloud and the view of it where they are asked for; the files and how many points."""
    from densevit.ops.point_cloud import stride_for, write_ply
    from densevit.visualization import draw_points, write_image

    if args.camera is None:
        return []
    stride = stride_for(found.image.shape[:2])
    locations, colors = found.point_cloud(args.camera, stride)
    written = []
    if args.ply:
        write_ply(target.with_suffix(".ply"), locations, colors)
        each = f" of each {stride} x {stride} pixels one" if stride > 1 else ""
        written.append(f"{target.with_suffix('.ply')} ({len(locations)} points{',' + each if each else ''})")
    if args.cloud_view:
        path = target.with_name(f"{target.stem}_cloud.png")
        write_image(path, draw_points(locations, colors[:, ::-1]))
        written.append(str(path))
    return written
