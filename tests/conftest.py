"""Fixtures that every test may use."""

import signal
from pathlib import Path

import pytest
import torch

# a shell starts what runs in its background deaf to interrupts, and nohup to a closed terminal
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
torch.set_num_threads(1)  # the tests run several at a time


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's top folder."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared(root) -> Path:
    """The folder of real data and reference cases beside the project; the test is skipped where it is not there."""
    folder = root.parent / "shared"
    if not (folder / "parity").is_dir():
        pytest.skip("needs the folder ../shared (real data and reference cases)")
    return folder


@pytest.fixture(scope="session")
def dinov2_folder(shared, tmp_path_factory) -> Path:
    """A folder with trained weights of DINOv2's ViT-S/14; the test is skipped where they cannot be had."""
    from trained_vit import write_folder

    return write_folder(
        tmp_path_factory.mktemp("dinov2_small"), shared / "data" / "weights" / "dinov2_small_names.json"
    )
