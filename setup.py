"""Packaging: the folders at the root install as ``proxforge.<folder>``; nothing else is installed."""

from setuptools import find_packages, setup

FOLDERS = ("grammar", "stats_cache", "vm", "search", "bench")

folders = find_packages(include=[pattern for f in FOLDERS for pattern in (f, f"{f}.*")])

setup(
    packages=[*find_packages(include=["proxforge", "proxforge.*"]), *(f"proxforge.{name}" for name in folders)],
    package_dir={"proxforge": "proxforge", **{f"proxforge.{name}": name.replace(".", "/") for name in folders}},
    package_data={
        "proxforge": ["py.typed"],
        "proxforge.grammar": ["*.lark"],
        "proxforge.stats_cache": ["*.md"],
        "proxforge.vm.backends.fused": ["*.cu"],
        "proxforge.bench.truth": ["*.json"],
    },
)
