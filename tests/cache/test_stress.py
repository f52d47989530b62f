"""The command that kills collections and flips bytes: it tells what it found, and sees what is wrong."""

from __future__ import annotations

import json

from proxforge.cli import run
from proxforge.stats_cache import stress as stress_module
from proxforge.stats_cache.stress import Flip, Kill, Stress


def test_stress_on_the_command_line(capsys):
    arguments = ["cache", "stress", "--kills", "2", "--flips", "6", "--networks", "4"]
    assert run([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["networks"], len(found["kills"]), len(found["flips"])) == (True, 4, 2, 6)
    assert all(0 <= kill["files"] <= 4 and kill["equal"] for kill in found["kills"])
    assert len({(flip["file"], flip["place"]) for flip in found["flips"]}) > 1


def test_a_cache_that_differs_and_a_byte_that_is_not_found_are_told(capsys, monkeypatch):
    whole, other = Kill(0.1, 3, True, 0, True), Kill(0.1, 3, False, 1, False)
    assert Stress(4, 100, 1.0, (whole,), (Flip("manifest.json", 3, True),)).ok
    assert not Stress(4, 100, 1.0, (whole,), (Flip("manifest.json", 3, False),)).ok
    failed = Stress(4, 100, 1.0, (whole, other), ())
    monkeypatch.setattr(stress_module, "stress", lambda *args, **keywords: failed)
    assert run(["cache", "stress", "--kills", "2", "--flips", "0"]) == 1
    shown = capsys.readouterr().out
    assert "killed: 2, at 3 to 3 files, 1 before there was a manifest, 1 amid a file; equal when continued: 1" in shown
