"""Fixtures that every test may use."""

from pathlib import Path

import pytest
import torch

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
