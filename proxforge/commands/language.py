"""``ops``, ``check`` and ``export``: the language without data."""

from __future__ import annotations

from pathlib import Path

import click

from ..grammar.errors import ProxforgeError, ProxyError
from ..output import emit, table
from .options import PATH, json_option


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
@json_option
def check(expr: str, as_json: bool) -> int:
    """Compile a formula: its type, canonical form, program and LaTeX, or what is wrong with it."""
    from ..bench.proxies import PUBLISHED
    from ..vm.compile import compile_text

    try:
        proxy = compile_text(PUBLISHED[expr].formula if expr in PUBLISHED else expr)
    except ProxyError as error:
        if not as_json:
            raise
        emit({"ok": False, "error": error.to_dict()})
        return 2
    found = {
        "ok": True,
        "type": str(proxy.type),
        "canonical": proxy.canonical,
        "hash": proxy.hash,
        "instructions": len(proxy.program),
        "statistics": list(proxy.statistics),
        "shape_only": proxy.shape_only,
        "disassembly": proxy.disassemble(),
        "latex": proxy.latex,
    }
    if as_json:
        emit(found)
        return 0
    for key in ("type", "canonical", "hash", "instructions", "statistics", "shape_only", "latex"):
        value = found[key]
        shown = ", ".join(value) if isinstance(value, list) else value
        shown = {True: "yes", False: "no"}[value] if isinstance(value, bool) else shown
        click.echo(f"{key.replace('_', ' '):13}{shown}")
    click.echo("\n".join(["", *proxy.disassemble()]))
    return 0


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
