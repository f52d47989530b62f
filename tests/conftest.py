"""What every test shares: one thread per process, and the folder with the official data files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is loaded; pytest-xdist runs one process per core
THREADS = int(os.environ["OMP_NUM_THREADS"])

# the same examples in every run (--hypothesis-seed tries others), and no failure because a machine is busy
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")

BESIDE = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder that holds ``vit_bench_101/``: ``PROXFORGE_DATA``, or ``../shared/data`` beside the checkout."""
    given = os.environ.get("PROXFORGE_DATA")
    folder = Path(given) if given else BESIDE
    if not folder.is_dir():
        pytest.skip(f"PROXFORGE_DATA is not set to a folder with the official data files ({folder} does not exist)")
    return folder


@pytest.fixture(autouse=True)
def _torch_keeps_its_threads() -> Iterator[None]:
    """Nothing leaves torch with other threads than it began with: with more, all later tests fight for the cores."""
    yield
    torch = sys.modules.get("torch")
    assert torch is None or torch.get_num_threads() == THREADS
