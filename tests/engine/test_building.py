"""From a config to a Runner: what is told before anything is built."""

import importlib.util

import pytest

from densevit.engine import build_runner, read_config
from densevit.errors import ConfigError


def test_a_tensorboard_that_is_not_installed_is_told_before_the_data_is_read(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "tensorboard" else find(name, *a))
    config = read_config("pvt_retinanet_scenes", {"tensorboard": True})
    with pytest.raises(ConfigError, match=r"densevit\[tensorboard\]"):
        build_runner(config)


def test_a_config_without_a_model_is_told(tmp_path):
    path = tmp_path / "empty.py"
    path.write_text("log_level = 'INFO'\n")
    with pytest.raises(ConfigError, match="no model"):
        build_runner(read_config(path))
