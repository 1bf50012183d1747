"""Packages the recipes of configs/ as densevit.configs; everything else stands in setup.cfg."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["densevit", "densevit.*"]), "densevit.configs", "densevit.configs._base_"],
    package_dir={"densevit.configs": "configs", "densevit.configs._base_": "configs/_base_"},
)
