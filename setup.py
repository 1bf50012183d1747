"""Packages the recipes of configs/ as densevit.configs; metadata and requirements are in pyproject.toml."""

from setuptools import find_packages, setup

CONFIGS = {"densevit.configs": "configs", "densevit.configs._base_": "configs/_base_"}
CONFIGS["densevit.configs._base_.pipelines"] = "configs/_base_/pipelines"

setup(packages=[*find_packages(include=["densevit", "densevit.*"]), *CONFIGS], package_dir=CONFIGS)
