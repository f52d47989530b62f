"""What installs, what imports what, what is loaded when."""

from __future__ import annotations

import ast
import email
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = ("grammar", "stats_cache", "vm", "search", "bench", "proxforge")
"""Each may import itself and those before it."""


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def package_of(path: Path) -> str:
    """The package that a module of the checkout belongs to, as it installs."""
    folder = path.relative_to(ROOT).parent.parts
    return ".".join(folder if folder[0] == "proxforge" else ("proxforge", *folder))


def imported(path: Path, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything that a module imports, relative imports resolved."""
    package = package_of(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def room(dotted: str) -> str | None:
    """The folder of the order that a dotted name lies in; None outside this package."""
    first, _, rest = dotted.partition(".")
    if first in ORDER[:-1]:
        return first
    if first != "proxforge":
        return None
    inner = rest.partition(".")[0]
    return inner if inner in ORDER else "proxforge"


def wrong_way(path: Path, tree: ast.Module) -> list[str]:
    own = room(package_of(path))
    assert own is not None
    return [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for line, name in imported(path, tree)
        if (other := room(name)) is not None and ORDER.index(other) > ORDER.index(own)
    ]


def test_imports_go_one_way() -> None:
    found = [line for path in sources(*ORDER) for line in wrong_way(path, ast.parse(path.read_text(encoding="utf-8")))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("file", "text", "wrong"),
    [
        ("grammar/parse.py", "from ..stats_cache import store", True),
        ("grammar/parse.py", "from .. import vm", True),
        ("grammar/parse.py", "from .types import Matrix", False),
        ("grammar/parse.py", "def f():\n    from proxforge.search import loop", True),
        ("vm/backends/torch.py", "from ...bench.truth import base", True),
        ("vm/backends/torch.py", "from ...grammar import ops", False),
        ("vm/backends/torch.py", "import search", True),
        ("bench/tables.py", "from ..search.loop import run", False),
        ("bench/tables.py", "from .. import score", True),
        ("proxforge/cli.py", "from .bench import tables", False),
    ],
)
def test_the_check_of_imports_sees(file: str, text: str, wrong: bool) -> None:
    assert bool(wrong_way(ROOT / file, ast.parse(text))) is wrong


@pytest.mark.parametrize("module", ["proxforge", "proxforge.grammar.errors", "proxforge.bench.truth.base"])
def test_import_loads_neither_torch_nor_numba(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{'torch', 'numba', 'sklearn'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def finds_no_class(unpickler: ast.ClassDef) -> bool:
    """Whether its ``find_class`` does nothing but raise, and it has no other method."""
    methods = [node for node in unpickler.body if isinstance(node, ast.FunctionDef)]
    return [m.name for m in methods] == ["find_class"] and [type(s) for s in methods[0].body] == [ast.Raise]


def unsafe_reads(tree: ast.Module) -> list[int]:
    """Lines that read a pickle: a call of pickle's loaders, an import of them, an unpickler that may find a class, or
    torch.load without weights_only=True."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "pickle":
            lines.append(node.lineno)
        if isinstance(node, ast.ClassDef) and "pickle.Unpickler" in map(ast.unparse, node.bases):
            lines += [node.lineno] * (not finds_no_class(node))
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        called = ast.unparse(node.func)
        safe = any(
            word.arg == "weights_only" and isinstance(word.value, ast.Constant) and word.value.value is True
            for word in node.keywords
        )
        if called in ("pickle.load", "pickle.loads", "pickle.Unpickler") or (called == "torch.load" and not safe):
            lines.append(node.lineno)
    return lines


def test_no_pickle_is_read_unsafely() -> None:
    files = [*sources(*ORDER, "tests"), ROOT / "setup.py"]
    found = [f"{path}:{line}" for path in files for line in unsafe_reads(ast.parse(path.read_text(encoding="utf-8")))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("torch.load(p)", [1]),
        ("torch.load(p, weights_only=False)", [1]),
        ("torch.load(p, weights_only=flag)", [1]),
        ("x = 1\npickle.loads(b)", [2]),
        ("torch.load(p, weights_only=True)", []),
        ("from pickle import loads", [1]),
        ("class A(pickle.Unpickler): pass", [1]),
        ("class A(pickle.Unpickler):\n def find_class(self, m, n):\n  return getattr(m, n)", [1]),
        (
            "class A(pickle.Unpickler):\n def find_class(self, m, n): raise E\n def persistent_load(self, i): return i",
            [1],
        ),
        ("class A(pickle.Unpickler):\n def find_class(self, m, n): raise E", []),
        ("json.load(f)", []),
    ],
)
def test_the_check_of_reads_sees(text: str, lines: list[int]) -> None:
    assert unsafe_reads(ast.parse(text)) == lines


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy of the checkout so that nothing appears in it."""
    tree = tmp_path_factory.mktemp("tree")
    for folder in ORDER:
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, tree)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tree / "out"), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (built,) = (tree / "out").glob("*.whl")
    return zipfile.ZipFile(built)


def test_wheel_installs_proxforge_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    (info,) = [top for top in tops if top.endswith(".dist-info")]
    assert tops == {"proxforge", info}
    assert info.startswith("proxforge-")
    assert wheel.read(f"{info}/top_level.txt").decode().split() == ["proxforge"]


def test_wheel_holds_every_module_of_the_checkout(wheel: zipfile.ZipFile) -> None:
    expected = {
        "/".join([*package_of(path).split("."), path.name])
        for path in sources(*ORDER)
        if (path.parent / "__init__.py").is_file()
    }
    assert {name for name in wheel.namelist() if name.endswith(".py")} == expected
    assert {"proxforge/vm/backends/__init__.py", "proxforge/search/strategies/__init__.py"} <= expected


@pytest.mark.parametrize(
    "file", ["py.typed", "grammar/formula.lark", "bench/truth/digits.json", "vm/backends/fused/kernel.cu"]
)
def test_wheel_holds_the_data_files(wheel: zipfile.ZipFile, file: str) -> None:
    assert f"proxforge/{file}" in wheel.namelist()


def test_wheel_metadata(wheel: zipfile.ZipFile) -> None:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = email.message_from_bytes(wheel.read(name))
    assert metadata["License-Expression"] == "Apache-2.0"
    (licence,) = [name for name in wheel.namelist() if name.endswith("/licenses/LICENSE")]
    assert b"Apache License" in wheel.read(licence)
    (scripts,) = [name for name in wheel.namelist() if name.endswith("/entry_points.txt")]
    assert "proxforge = proxforge.cli:main" in wheel.read(scripts).decode()


def test_every_dependency_is_pinned() -> None:
    """A dependency that constraints.txt does not pin would install another version tomorrow."""

    def key(requirement: str) -> str:
        return requirement.split("[")[0].split(">")[0].split("=")[0].strip().lower().replace("_", "-")

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    for extra in project["project"]["optional-dependencies"].values():
        wanted += extra
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert next(iter(pins)) == "torch"
    assert {key(requirement) for requirement in wanted} - {"proxforge"} <= {key(name) for name in pins}
