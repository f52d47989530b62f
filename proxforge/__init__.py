"""proxforge: symbolic regression for zero-cost proxies."""

from pathlib import Path as _Path
from typing import TYPE_CHECKING as _TYPE_CHECKING

if (_Path(__file__).parent.parent / "setup.py").is_file():  # a checkout: the folders lie beside this package
    __path__.append(str(_Path(__file__).parent.parent))

if _TYPE_CHECKING:
    from .api import score, search
    from .bench.tables import ScoreTable
    from .bench.truth.base import Benchmark, load_benchmark
    from .grammar.errors import ProxforgeError, ProxyError
    from .search.result import SearchResult
    from .stats_cache import Cache, open_cache
    from .vm.compile import Proxy
    from .vm.compile import compile_text as compile

__version__ = "0.1.0"

_HOME = {
    "compile": (".vm.compile", "compile_text"),
    "Proxy": (".vm.compile", "Proxy"),
    "score": (".api", "score"),
    "ScoreTable": (".bench.tables", "ScoreTable"),
    "search": (".api", "search"),
    "SearchResult": (".search.result", "SearchResult"),
    "load_benchmark": (".bench.truth.base", "load_benchmark"),
    "Benchmark": (".bench.truth.base", "Benchmark"),
    "open_cache": (".stats_cache", "open_cache"),
    "Cache": (".stats_cache", "Cache"),
    "ProxforgeError": (".grammar.errors", "ProxforgeError"),
    "ProxyError": (".grammar.errors", "ProxyError"),
}

__all__ = [
    "Benchmark",
    "Cache",
    "ProxforgeError",
    "Proxy",
    "ProxyError",
    "ScoreTable",
    "SearchResult",
    "compile",
    "load_benchmark",
    "open_cache",
    "score",
    "search",
]


def __getattr__(name: str) -> object:
    """Each public name is imported when it is first used, so that ``import proxforge`` is quick."""
    if name not in _HOME:
        raise AttributeError(f"module 'proxforge' has no attribute '{name}'")
    from importlib import import_module

    module, attribute = _HOME[name]
    value = getattr(import_module(module, __name__), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
