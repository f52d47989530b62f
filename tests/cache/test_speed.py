"""The measurement of the collection measures; what it finds is not asserted."""

from __future__ import annotations

import json

from proxforge.cli import run
from proxforge.stats_cache.speed import speed


def test_speed():
    found = speed("micro", networks=4, batch=2, workers=1)
    assert (found.space, found.networks, found.batch, found.workers) == ("micro", 4, 2, 1)
    assert found.per_second > 0
    assert found.seconds > 0
    assert 0 < found.share < 1
    assert found.bytes > 1000


def test_speed_on_the_command_line(capsys):
    arguments = ["cache", "speed", "cifar-resnet", "--networks", "2", "--workers", "1", "--batch", "1"]
    assert run([*arguments, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["spaces"]
    assert row["space"] == "cifar-resnet"
    assert run(arguments) == 0
    assert "MB/network" in capsys.readouterr().out
