"""proxforge: symbolic regression for zero-cost proxies."""

import sys as _sys
from pathlib import Path as _Path
from types import ModuleType as _ModuleType
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

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


class _Search(_ModuleType):
    """The package ``proxforge.search``, which is the function `search` too: both have this name."""

    def __call__(self, *args: _Any, **options: _Any) -> "SearchResult":
        """See `proxforge.api.search`."""
        from .api import search

        return search(*args, **options)


class _Facade(_ModuleType):
    """This package: makes its folder ``search`` callable when it is imported, whoever imports it first."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "search" and isinstance(value, _ModuleType):
            value.__class__ = _Search
        super().__setattr__(name, value)


_sys.modules[__name__].__class__ = _Facade


def __getattr__(name: str) -> object:
    """Each public name is imported when it is first used, so that ``import proxforge`` is quick."""
    from importlib import import_module

    if name == "search":
        return import_module(".search", __name__)
    if name not in _HOME:
        raise AttributeError(f"module 'proxforge' has no attribute '{name}'")
    module, attribute = _HOME[name]
    value = getattr(import_module(module, __name__), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
