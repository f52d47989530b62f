"""The language reference holds what the code holds: rules, limits, kinds of errors."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from proxforge.grammar import expr, parse, syntax
from proxforge.grammar.errors import ProxyError
from proxforge.grammar.rules import RULES
from proxforge.grammar.types import AXES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "language.md").read_text(encoding="utf-8")


def rules_table() -> str:
    """All rules, one row per op at the top."""
    rows = ["| op | rules |", "| --- | --- |"]
    for op in dict.fromkeys(rule.op for rule in RULES):
        found = [r.algebra.replace(" = ", " ≈ ", 1) if r.rounding else r.algebra for r in RULES if r.op == op]
        rows.append(f"| `{op}` | {', '.join(f'`{algebra}`' for algebra in found)} |")
    return "\n".join(rows)


def test_the_page_has_every_rule():
    assert rules_table() in PAGE, f"the table of the page should be\n{rules_table()}"


def test_the_page_has_every_limit():
    shown = dict(re.findall(r"^\| ([a-z, -]+) \| ([\d,]+) \| `size` \|$", PAGE, re.MULTILINE))
    assert {what: int(number.replace(",", "")) for what, number in shown.items()} == {
        "characters of a formula": syntax.MAX_LENGTH,
        "parentheses open at one place, signs in a row": syntax.MAX_NESTING,
        "nested operations": expr.MAX_DEPTH,
        "different sub-expressions": expr.MAX_NODES,
        "names, numbers, operators and statements": parse.MAX_STEPS,
        "assigned names": parse.MAX_NAMES,
        "characters of an assigned name": parse.MAX_NAME,
    }


def test_every_kind_of_error_has_an_example():
    kinds = re.search(r"``kind`` is one of ``([a-z ]+)``", ProxyError.__doc__ or "")
    assert kinds is not None
    listed = re.findall(r"^\| `(\w+)` \| [^|]+ \|$", PAGE.partition("## Errors")[2].partition("###")[0], re.MULTILINE)
    examples = re.findall(r"^### `(\w+)`\n\n```\n\$ proxforge check [^\n]+\n(\w+) error: ", PAGE, re.MULTILINE)
    assert sorted(listed) == sorted(kinds[1].split())
    assert examples == [(kind, kind) for kind in listed]


def test_the_page_names_every_axis():
    assert all(f"`{axis}`" in PAGE.partition("## Types")[2].partition("###")[0] for axis in AXES)


def test_the_example_of_fingerprints_prints_what_stands_below_it():
    code, printed = re.search(r"```python\n([^`]*fingerprint[^`]*)```\n```\n([^`]*)```", PAGE).groups()
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == printed
