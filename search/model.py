"""A Gaussian process over how programs order the probes: what the values of some programs say of others.

Rasmussen and Williams (2006), Sec. 2.1 and 2.2. The kernel is the inner product of two orders, that is Kendall's tau of
the two programs. As long as no more programs were seen than an order has entries, the matrix of their kernel is
factorised, program by program, so that the same programs make the same model to the last bit however often it was
asked on the way; from then on the matrix of the entries is.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..vm.blas import one_blas_thread
from .probes import PAIRS

Array = NDArray[np.float64]

DECIMALS = 9
"""Predictions that agree to so many are one: the last bits of a solver must not decide."""
NOTHING = -2.0
"""The promise of a program without an order: far below all."""


class Settings(Protocol):
    """``prior``: standard deviation of the values of programs that are not alike. ``noise``: of what the orders do not
    explain. ``kappa``: standard deviations that a promise adds to a prediction."""

    @property
    def prior(self) -> float: ...

    @property
    def noise(self) -> float: ...

    @property
    def kappa(self) -> float: ...


class Model:
    """What was learnt so far, a value; an order is a row of length 1, or 0, of `PAIRS` entries."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ridge = (settings.noise / settings.prior) ** 2
        self._orders, self._values = np.empty((0, PAIRS)), np.empty(0)
        # As long as it is `_dual` of the programs seen, then of the entries: Cholesky factor, lower, and weights
        self._root: Array = np.empty((0, 0))
        self._weights = np.empty(0)

    @property
    def _dual(self) -> bool:
        return len(self._values) <= PAIRS

    def learnt(self, orders: Array, values: Array) -> Model:
        """The model that knows more programs: their orders ``[P, PAIRS]`` and values ``[P]``."""
        if not len(values):
            return self
        from scipy.linalg.lapack import dpotrs

        made = type(self)(self._settings)
        made._orders, made._values = np.concatenate((self._orders, orders)), np.concatenate((self._values, values))
        with one_blas_thread():
            if made._dual:
                made._root = self._grown(made._orders)
                made._weights = dpotrs(made._root, made._values, lower=1)[0]
            else:
                made._root = np.asarray(np.linalg.cholesky(made._orders.T @ made._orders + self._ridge * np.eye(PAIRS)))
                made._weights = dpotrs(made._root, made._orders.T @ made._values, lower=1)[0]
        return made

    def _grown(self, orders: Array) -> Array:
        """The Cholesky factor of the kernel with more programs, row by row."""
        from scipy.linalg.lapack import dtrtrs

        root = np.zeros((len(orders), len(orders)), order="F")
        known = len(self._root)
        root[:known, :known] = self._root
        for i in range(known, len(orders)):
            if i:
                root[i, :i] = dtrtrs(root[:i, :i], orders[:i] @ orders[i], lower=1)[0]
            root[i, i] = np.sqrt(orders[i] @ orders[i] + self._ridge - root[i, :i] @ root[i, :i])
        return root

    def promise(self, orders: Array) -> list[float]:
        """Of programs with these orders ``[P, PAIRS]`` the predicted value and ``kappa`` standard deviations of it."""
        if not len(orders):
            return []
        with one_blas_thread():
            mean, spread = self.predicted(orders)
        promise = np.round(mean + self._settings.kappa * spread, DECIMALS)
        promise[~orders.any(axis=1)] = NOTHING
        found: list[float] = promise.tolist()
        return found

    def predicted(self, orders: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the values of programs with these orders."""
        from scipy.linalg.lapack import dtrtrs

        if not len(self._values):
            return np.zeros(len(orders)), self._settings.prior * np.linalg.norm(orders, axis=1)
        if not self._dual:
            spread = self._settings.noise * np.linalg.norm(dtrtrs(self._root, orders.T, lower=1)[0], axis=0)
            return orders @ self._weights, spread
        alike = orders @ self._orders.T
        explained = np.square(dtrtrs(self._root, alike.T, lower=1)[0]).sum(axis=0)
        left = np.maximum(np.square(orders).sum(axis=1) - explained, 0.0)
        return alike @ self._weights, self._settings.prior * np.sqrt(left)
