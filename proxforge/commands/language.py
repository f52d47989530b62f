"""``ops``, ``check`` and ``export``: the language."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..grammar.errors import ProxforgeError, ProxyError
from ..output import emit, progress, table
from .options import PATH, collecting_into, collection_options, json_option

if TYPE_CHECKING:
    from ..grammar.analysis import Known


@click.command()
@click.option(
    "--set", "op_set", help="Only the ops of this set: autoprox, autodas, eznas, automl_zero, extended, layer."
)
@click.option("--markdown", is_flag=True, help="The reference page of the ops, as in docs/ops.md.")
@json_option
def ops(op_set: str | None, markdown: bool, as_json: bool) -> None:
    """List the ops of the language with their signatures and rules."""
    from ..docs_ops import ops_page
    from ..grammar.ops import OP_SETS, OPS

    if op_set is not None and op_set not in OP_SETS:
        from ..grammar.errors import nearest

        known = ", ".join(OP_SETS)
        raise ProxforgeError(
            "name", f"no op set is called '{op_set[:80]}'{nearest(op_set, OP_SETS)}; there are {known}"
        )
    chosen = [OPS[name] for name in (OPS if op_set is None else OP_SETS[op_set])]
    if as_json:
        emit(
            [
                {
                    "name": op.name,
                    "arity": op.arity,
                    "signatures": list(op.signatures),
                    "rule": op.rule,
                    "domain": op.domain,
                    "edge": op.edge,
                    "sets": sorted(op.sets),
                    "latex": op.latex.format(*"xy"[: op.arity]),
                }
                for op in chosen
            ]
        )
    elif markdown:
        click.echo(ops_page(), nl=False)
    else:
        rows = [(op.name, "\n".join(op.signatures), op.rule) for op in chosen]
        title = f"{len(chosen)} ops, {sum(len(op.signatures) for op in chosen)} signatures"
        table(title, ("op", "signatures", "rule"), rows, text=True)


@click.command()
@click.argument("expr")
@click.option("--benchmark", "-b", help="Also use what the cache knows of the statistics of this benchmark's networks.")
@click.option("--data", type=PATH, help="Folder of the benchmark's official files.")
@collection_options
@json_option
def check(expr: str, benchmark: str | None, data: Path | None, as_json: bool, **collection: Any) -> int:
    """Compile a formula: its type, canonical form, program and LaTeX, or what is wrong with it."""
    from ..bench.proxies import PUBLISHED
    from ..vm.compile import compile_text
    from ..vm.fingerprint import fingerprint

    formula = PUBLISHED[expr].formula if expr in PUBLISHED else expr
    try:
        proxy = compile_text(formula)
        if benchmark is not None:
            proxy = compile_text(formula, known=_known(proxy.statistics, benchmark, data, as_json, **collection))
    except ProxyError as error:
        if not as_json:
            raise
        emit({"ok": False, "error": error.to_dict()})
        return 2
    (printed,) = fingerprint([proxy.node])
    found = {
        "ok": True,
        "type": str(proxy.type),
        "canonical": proxy.canonical,
        "hash": proxy.hash,
        "fingerprint": printed.hex() if printed is not None else None,
        "instructions": len(proxy.program),
        "statistics": list(proxy.statistics),
        "shape_only": proxy.shape_only,
        "disassembly": proxy.disassemble(),
        "latex": proxy.latex,
    }
    if as_json:
        emit(found)
        return 0
    for key in ("type", "canonical", "hash", "fingerprint", "instructions", "statistics", "shape_only", "latex"):
        value = found[key]
        shown = ", ".join(value) if isinstance(value, list) else value
        shown = {True: "yes", False: "no"}[value] if isinstance(value, bool) else shown
        shown = "none: no finite values on the probes" if shown is None else shown
        click.echo(f"{key.replace('_', ' '):13}{shown}")
    click.echo("\n".join(["", *proxy.disassemble()]))
    return 0


def _known(names: Sequence[str], benchmark: str, data: Path | None, as_json: bool, **collection: Any) -> Known:
    """What the cache knows of the statistics; what is missing is collected."""
    from .. import api
    from ..vm.known import known_of

    truth = api.benchmark_of(benchmark, data)
    with progress("collecting statistics", as_json) as bar:
        source = api.statistics(truth, names, progress=collecting_into(bar), **collection)
    return known_of(source, range(len(source.networks)))


@click.command()
@click.argument("expr")
@click.option("--to", "to", required=True, help="text, latex, sympy or torch.")
@click.option("--out", type=PATH, help="The file to write.  [default: stdout]")
@json_option
def export(expr: str, to: str, out: Path | None, as_json: bool) -> None:
    """Write a formula in another form: canonical text, LaTeX, a SymPy expression, or a stand-alone torch file."""
    from ..bench.proxies import PUBLISHED
    from ..exports import export as exported
    from ..exports import write
    from ..vm.compile import compile_text

    proxy = compile_text(PUBLISHED[expr].formula if expr in PUBLISHED else expr)
    content = exported(proxy.node, to)
    if out is not None:
        write(content, out)
    if as_json:
        emit({"to": to, "canonical": proxy.canonical, "hash": proxy.hash, "out": out and str(out), "content": content})
    elif out is None:
        click.echo(content, nl=False)
    else:
        click.echo(f"{out}: {len(content.splitlines())} lines")
