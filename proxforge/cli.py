"""The command line. Every command takes ``--json``; bad input is exit code 2 and one error."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

import click

from . import __version__
from .commands.agreement import agreement
from .commands.atlas import atlas
from .commands.benchmarks import bench
from .commands.caching import cache, collect
from .commands.comparing import compare_strategies
from .commands.fuzzing import fuzz
from .commands.language import check, export, ops
from .commands.nas import nas
from .commands.performance import performance
from .commands.proxies import proxies
from .commands.sampling import sampling
from .commands.scoring import demo, score
from .commands.searching import report, search, strategies, verify
from .commands.spaces import space
from .commands.speed import speed
from .commands.validity import validity
from .grammar.errors import ProxforgeError
from .output import BAD_INPUT, PIPE_CLOSED, fail


def main(args: Sequence[str] | None = None) -> None:
    """Runs a command and exits."""
    given = list(sys.argv[1:] if args is None else args)
    sys.exit(run(given))


def run(args: list[str]) -> int:
    """Runs a command; the exit code: 0, 1 (a check found problems), 2 (bad input) or 130 (interrupted)."""
    as_json = "--json" in args
    if args[:1] == ["--json"]:  # an option of every command, so it may stand before the command too
        args = [*args[1:], "--json"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a locale without ε is no reason to fail
    try:
        code = cli.main(args, prog_name="proxforge", standalone_mode=False)
    except ProxforgeError as error:
        return fail(error, as_json)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return BAD_INPUT
    except click.NoSuchOption as error:
        hint = "(A formula that begins with '-' goes after '--'.) " if args[0] in ("check", "export", "score") else ""
        return fail(ProxforgeError("usage", f"{error.format_message()} {hint}See 'proxforge --help'."), as_json)
    except click.ClickException as error:
        message = " ".join(error.format_message().split()).rstrip(".")
        return fail(ProxforgeError("usage", f"{message}. See 'proxforge --help'."), as_json)
    except BrokenPipeError:  # the reader (head, say) has what it wanted
        _give_up_stdout()
        return PIPE_CLOSED
    except (OSError, MemoryError) as error:
        problem = ProxforgeError("system", f"{type(error).__name__}: {error}")
        try:
            code = fail(problem, as_json)
            sys.stdout.flush()
        except OSError:  # stdout itself is what cannot be written
            _give_up_stdout()
            code = fail(problem, as_json=False)
        return code
    except (click.Abort, KeyboardInterrupt):
        return fail(ProxforgeError("interrupted", "interrupted"), as_json)
    return code if isinstance(code, int) else 0


def _give_up_stdout() -> None:
    """What is still to be written goes nowhere; else the interpreter would try again when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def cli() -> None:
    """Write zero-cost proxies as text, score them on hundreds of untrained networks, search for better ones."""


bench.add_command(compare_strategies)
bench.add_command(speed)
bench.add_command(agreement)
bench.add_command(performance)
bench.add_command(validity)
bench.add_command(fuzz)
bench.add_command(sampling)
bench.add_command(proxies)
cli.add_command(atlas)
for command in (ops, check, export, score, search, strategies, verify, report, collect, cache, space, bench, demo, nas):
    cli.add_command(command)
