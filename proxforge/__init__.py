"""proxforge: symbolic regression for zero-cost proxies."""

from pathlib import Path as _Path

if (_Path(__file__).parent.parent / "setup.py").is_file():  # a checkout: the folders lie beside this package
    __path__.append(str(_Path(__file__).parent.parent))
