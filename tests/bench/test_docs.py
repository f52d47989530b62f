"""The pages on proxies and on architecture search name what there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from proxforge.bench.measures import PARTS
from proxforge.bench.proxies import PUBLISHED
from proxforge.bench.proxies.ensembles import parse_ensemble
from proxforge.cli import cli

DOCS = Path(__file__).parents[2] / "docs"
COMMAND = re.compile(r"^proxforge (?:.*\\\n)*.*$", re.MULTILINE)


def commands() -> list[str]:
    found = []
    for page in ("proxies.md", "nas.md"):
        for block in re.findall(
            r"^```\n(.*?)^```$", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        ):
            found += [text.replace("\\\n", " ").split("  #")[0] for text in COMMAND.findall(block)]
    return [text for text in found if "[" not in text]


@pytest.mark.parametrize("text", commands())
def test_commands_parse(text):
    _, *args = shlex.split(text)
    command, context = cli, click.Context(cli)
    while isinstance(command, click.Group):
        command = command.commands[args.pop(0)]
    context = command.make_context(command.name, args)
    for name in context.params.get("ensembles") or ():
        parse_ensemble(name)


def test_there_are_commands():
    assert len(commands()) > 5


def test_every_proxy_is_described():
    text = (DOCS / "proxies.md").read_text(encoding="utf-8")
    for name in (*PUBLISHED, *PARTS):
        assert f"`{name}`" in text
