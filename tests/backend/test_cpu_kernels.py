"""The compiled instructions by themselves: accuracy in units in the last place, every length, what numba keeps."""

from __future__ import annotations

import itertools
from pathlib import Path

import numba
import numpy as np
import pytest

from proxforge.grammar.reference import EPS, FLOAT32_MAX, FLOAT32_TINY, in_range
from proxforge.vm.backends.cpu import columns, emit, functions, machine
from proxforge.vm.backends.cpu.emit import PAD, STEPS
from proxforge.vm.backends.cpu.threads import aligned

ROOM = 4096


def run(
    code: list[tuple[int, ...]],
    segments: list[np.ndarray],
    number=np.float64,
    totals: int = 1,
    out=None,
    tile_rows=None,
):
    """Runs instructions on one tile that holds segments ``[r, c]``; ``out`` is written by COPY_OUT of the last row."""
    rows, width = segments[0].shape
    scratch = aligned(8 * ROOM, number)
    scratch[:] = 1e30  # what is left of another tile
    jobs = np.array([[0, 0, rows, 0, width, width, tile_rows or rows, 0, 0, 0]], np.int64)
    places = [s.ctypes.data for s in segments] + ([] if out is None else [out.ctypes.data])
    addresses = np.array(places, np.int64)[:, None]
    found = np.zeros((1, totals))
    tables = [np.full(width + PAD, emit.LOWEST, number), np.zeros(width + PAD, number)]
    sums = [np.zeros(width + PAD), np.zeros(rows + PAD)]
    machine.compiled("run", number is np.float64)(
        np.zeros(1, np.int64), np.zeros(2, np.int64), 1, np.array([0, 1]), jobs, np.array(code, np.int64), scratch,
        ROOM, addresses, np.full((1, 1), 0.5), found, *tables, 0, np.zeros(width + PAD, number),
        np.ones(width + PAD, number), 0, *sums, 0,
    )  # fmt: skip
    return found[0], tables, sums


def apply(name: str, x: np.ndarray, number=np.float64) -> np.ndarray:
    """One elementwise instruction on numbers ``[n]`` of the machine's own format."""
    x = np.ascontiguousarray(x, number)[None]
    out = np.empty_like(x)
    code = [
        (machine.COPY_IN, 0, 0, 0, 0, 0, 0),
        (machine.STEP, STEPS.index(name), 1, 0, 0, 0, 0),
        (machine.COPY_OUT, 0, 0, 1, 0, 1, 0),
    ]
    run(code, [x], number, out=out)
    return out[0]


def exact(name: str, x: np.ndarray) -> np.ndarray:
    x = x.astype(np.longdouble)
    with np.errstate(all="ignore"):
        e = np.exp(np.minimum(x, 11000))
        return {
            "exp.m": e,
            "log.m": np.log(x + np.longdouble(EPS)),
            "abslog.m": np.log(np.abs(x)),
            "sigmoid.m": 1 / (1 + np.exp(np.minimum(-x, 11000))),
            "tanh.m": np.tanh(x),
            "mish.m": x * np.tanh(np.log1p(e)),
            "sqrt.m": np.sqrt(x),
        }[name]


RANGES = {
    "exp.m": (-87.3, 88.7),
    "log.m": (0.0, 50.0),
    "abslog.m": (-3.0, 3.0),
    "sigmoid.m": (-87.0, 60.0),
    "tanh.m": (-25.0, 25.0),
    "mish.m": (-60.0, 40.0),
    "sqrt.m": (0.0, 1e30),
}


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="long double is float64 here: nothing to compare with")
@pytest.mark.parametrize("number", [np.float64, np.float32])
@pytest.mark.parametrize("name", sorted(RANGES))
def test_accuracy(name, number):
    """Over the whole range, in the small, and over 60 orders of magnitude."""
    rng = np.random.default_rng(0)
    low, high = RANGES[name]
    small = rng.uniform(-1.0, 1.0, 1500) * 10.0 ** rng.uniform(-30, 1, 1500)
    x = np.concatenate((rng.uniform(low, high, 2000), small)).astype(number)
    x = x[(x >= low) & (x <= high)]
    expected = exact(name, x)
    if name == "log.m":  # x + ε is rounded before the logarithm, which near 1 is a difference of two numbers
        x, expected = x[np.abs(expected) > 0.5], expected[np.abs(expected) > 0.5]
    normal = np.abs(expected) >= 2 * FLOAT32_TINY
    unit = np.spacing(np.abs(expected[normal]).astype(number))
    error = np.abs(apply(name, x, number)[normal] - expected[normal]) / unit
    bound = functions.ULP["log" if "log" in name else name[:-2]][number is np.float32]
    assert error.max() <= bound, (x[normal][error.argmax()], float(error.max()))
    assert error.max() > bound / 8, "the bound that is stated is far from what is reached"


SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, FLOAT32_MAX, -FLOAT32_MAX, FLOAT32_TINY, -FLOAT32_TINY, 89.0, -88.0])


@pytest.mark.parametrize("number", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("exp.m", [np.nan, np.inf, 0, 1, np.inf, 0, 1, 1, np.inf, 0]),
        ("log.m", [np.nan, np.inf, np.nan, np.log(EPS), 88.72284, np.nan, np.log(EPS), np.nan, np.log(89), np.nan]),
        ("abslog.m", [np.nan, np.inf, np.inf, 0, 88.72284, 88.72284, -87.33655, -87.33655, np.log(89), np.log(88)]),
        ("sigmoid.m", [np.nan, 1, 0, 0.5, 1, 0, 0.5, 0.5, 1, 0]),
        ("tanh.m", [np.nan, 1, -1, 0, 1, -1, FLOAT32_TINY, -FLOAT32_TINY, 1, -1]),
        ("mish.m", [np.nan, np.inf, np.nan, 0, FLOAT32_MAX, 0, 0, 0, 89, None]),
        ("inv.m", [np.nan, 0, 0, 1e9, 0, 0, 1e9, 1e9, 1 / 89, -1 / 88]),
        ("sqrt.m", [np.nan, np.inf, 0, 0, 1.8446743e19, 0, 1.0842022e-19, 0, np.sqrt(89), 0]),
        ("sign.m", [np.nan, 1, -1, 0, 1, -1, 1, -1, 1, -1]),
        ("heaviside.m", [np.nan, 1, 0, 0, 1, 0, 1, 0, 1, 0]),
        ("square.m", [np.nan, np.inf, np.inf, 0, np.inf, np.inf, 0, 0, 7921, 7744]),
        ("neg.m", [np.nan, -np.inf, np.inf, 0, -FLOAT32_MAX, FLOAT32_MAX, -FLOAT32_TINY, FLOAT32_TINY, -89, 88]),
    ],
)
def test_edges_of_the_range(name, expected, number):
    found = apply(name, SPECIAL, number)
    known = np.array([e is not None for e in expected])
    wanted = np.array([0 if e is None else e for e in expected], np.float64)
    np.testing.assert_allclose(found[known], wanted[known], rtol=1e-6, atol=0)
    assert not np.signbit(found[found == 0]).any(), "there is no -0"


@pytest.mark.parametrize("number", [np.float64, np.float32])
@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 1000])
def test_totals_of_every_length(n, number):
    """Nothing behind the tile is taken in, whatever a loop runs over."""
    x = np.random.default_rng(n).normal(0, 1, (1, n)).astype(np.float32)
    kinds = (emit.SUM, emit.ABSOLUTES, emit.SQUARES, emit.PRODUCTS, emit.MIN, emit.MAX)
    code = [(machine.TAKE, 0, 0, 0, 0, 0, 0), *((machine.TOTAL, k, 0, 0, 0, i, 0) for i, k in enumerate(kinds))]
    code += [(machine.MOMENTS, 0, 0, 0, 0, 6, 0), (machine.COLUMN_SUMS, 0, 0, 0, 0, 0, 0)]
    code += [(machine.ROW_SUMS, 0, 0, 0, 0, 0, 0), (machine.COLUMN_STATISTICS, 0, 0, 0, 0, 0, 0)]
    totals = run(code, [x], number, totals=8)
    wide = x.astype(np.float64)
    squares = (wide * wide).sum()
    low, high = min(0.0, wide.min()), max(0.0, wide.max())  # the table began with zeros
    spread = ((wide - wide.mean()) ** 2).sum()
    expected = [wide.sum(), np.abs(wide).sum(), squares, squares, low, high, wide.mean(), spread]
    bound = 1e-12 if number is np.float64 else 1e-6
    atol = np.where(np.arange(8) < 4, bound, 1e-12) * max(1.0, expected[1])  # MOMENTS are float64 sums in both
    np.testing.assert_array_less(np.abs(totals[0] - expected), 1e-13 + atol)
    (largest, sums), (of_columns, of_rows) = totals[1:]
    np.testing.assert_array_equal(largest[:n], wide[0].astype(number))
    np.testing.assert_array_equal(sums[:n], np.ones(n))
    np.testing.assert_array_equal(of_columns[:n], wide[0])
    np.testing.assert_allclose(of_rows[:2], [wide.sum(), 0.0], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("number", [np.float64, np.float32])
@pytest.mark.parametrize("shape", [(1, 5), (7, 3), (40, 17), (90, 33), (12, 150)])
def test_columns_with_and_without_their_largest_element(shape, number):
    """Σ exp(x - largest) and, of moderate elements, Σ exp(x), of tiles of all rows, of three rows, and of one."""
    x = np.random.default_rng(0).normal(0, 1, shape).clip(-4, 4).astype(np.float32)
    wide, bound = x.astype(np.float64), 1e-14 if number is np.float64 else 1e-6
    take = (machine.TAKE, 0, 0, 0, 0, 0, 0)
    for variant, apart in ((columns.SHIFTED, wide.max(axis=0)), (columns.MODERATE, 0.0)):
        code = [take, (machine.COLUMN_STATISTICS, variant, 0, 0, 0, 0, 0)]
        for rows in (shape[0], 3, 1):
            largest, sums = run(code, [x], number, tile_rows=rows)[1]
            np.testing.assert_array_equal(largest[: shape[1]], x.max(axis=0).astype(number))
            np.testing.assert_allclose(sums[: shape[1]], np.exp(wide - apart).sum(axis=0), rtol=bound)
            broken = x.copy()
            broken[shape[0] // 2, 1] = np.nan
            sums = run(code, [broken], number, tile_rows=rows)[1][1]
            assert np.flatnonzero(np.isnan(sums[: shape[1]])).tolist() == [1]


@pytest.mark.parametrize("size", [1e-30, 1e30, 3e38])
def test_totals_of_float32_leave_its_range(size):
    """The squares of the elements, or their sum, are no float32; a total is float64."""
    x = np.full((1, 200), size, np.float32)
    kinds = (emit.SUM, emit.ABSOLUTES, emit.SQUARES, emit.PRODUCTS)
    code = [(machine.TAKE, 0, 0, 0, 0, 0, 0), *((machine.TOTAL, k, 0, 0, 0, i, 0) for i, k in enumerate(kinds))]
    wide = x.astype(np.float64)
    expected = [wide.sum(), wide.sum(), (wide * wide).sum(), (wide * wide).sum()]
    np.testing.assert_allclose(run(code, [x], np.float32, totals=4)[0], expected, rtol=1e-6)


@pytest.mark.parametrize("number", [np.float64, np.float32])
@pytest.mark.parametrize("name", emit.SUMMED)
def test_a_sum_that_is_not_stored_is_the_sum_of_what_would_be(name, number):
    """To the bit, of any number of elements; also where float32 leaves its range on the way, or there is a NaN."""
    rng = np.random.default_rng(0)
    cases = [rng.normal(0, 1, (1, n)) for n in (1, 5, 16, 63, 64, 65, 700)]
    cases += [np.full((1, 40), x) for x in (-1.0, 0.0, 1e-30, 85.0, 1e30, np.inf, np.nan)]
    for case in cases:
        x = case.astype(np.float32)
        step = STEPS.index(name)
        apart = [
            (machine.TAKE, 0, 0, 0, 0, 0, 0),
            (machine.STEP, step, 1, 0, 0, 0, 0),
            (machine.TOTAL, emit.SUM, 0, 1, 1, 0, 0),
        ]
        at_once = [(machine.TAKE, 0, 0, 0, 0, 0, 0), (machine.STEP_SUM, emit.SUMMED.index(name), 1, 0, 0, 0, step)]
        np.testing.assert_array_equal(*(run(code, [x], number, totals=1)[0] for code in (apart, at_once)))


@pytest.mark.parametrize("number", [np.float64, np.float32])
def test_a_division_sees_no_negative_zero(number):
    """-1 times 0, and a product below the range: what divides by it gives +inf, as the reference does."""
    x, y = np.array([[-1.0, -1e-30]], number), np.array([[0.0, 1e-30]], number)
    out = np.empty((1, 2), number)
    code = [
        (machine.COPY_IN, 0, 0, 0, 0, 0, 0),
        (machine.COPY_IN, 0, 1, 0, 0, 1, 0),
        (machine.STEP, STEPS.index("mul.mm"), 2, 0, 1, 0, 0),
        (machine.STEP, STEPS.index("div.mm"), 3, 0, 2, 0, 0),
        (machine.COPY_OUT, 0, 0, 3, 0, 2, 0),
    ]
    run(code, [x, y], number, out=out)
    np.testing.assert_array_equal(out, [[-np.inf, -np.inf]])


@pytest.mark.parametrize("number", [np.float64, np.float32])
def test_the_thread_keeps_its_treatment_of_small_numbers(number):
    """Numbers below the smallest normal one are numbers again after a sweep."""
    apply("exp.m", np.ones(20), number)
    tiny = np.array([1e-40, 2e-39], np.float32)
    assert (tiny * np.float32(0.5) > 0).all()


@pytest.mark.parametrize("number", [np.float64, np.float32])
def test_quotients_and_inverses_are_those_of_numpy(number):
    """To a unit in the last place; of what is no normal number exactly, and x/x is 1."""
    rng = np.random.default_rng(1)
    special = np.array([np.nan, np.inf, -np.inf, 0.0, FLOAT32_MAX, -FLOAT32_MAX, FLOAT32_TINY, -FLOAT32_TINY, 1.0])
    some = rng.choice([-1.0, 1.0], 400) * 10.0 ** rng.uniform(-37, 38, 400)
    a, b = np.meshgrid(np.concatenate((special, some)), np.concatenate((special, some[:30])))
    a, b = (np.ascontiguousarray(x.reshape(1, -1), np.float32).astype(number) for x in (a, b))
    for i in range(0, a.shape[1], 1000):
        x, y = (np.ascontiguousarray(part[:, i : i + 1000]) for part in (a, b))
        out = np.empty_like(x)
        code = [
            (machine.COPY_IN, 0, 0, 0, 0, 0, 0),
            (machine.COPY_IN, 0, 1, 0, 0, 1, 0),
            (machine.STEP, STEPS.index("div.mm"), 2, 0, 1, 0, 0),
            (machine.COPY_OUT, 0, 0, 2, 0, 2, 0),
        ]
        run(code, [x, y], number, out=out)
        with np.errstate(all="ignore"):
            expected = in_range(x.astype(np.float64) / y.astype(np.float64))
        np.testing.assert_array_max_ulp(out, expected.astype(number), 1)
        assert (out[(x == y) & np.isfinite(x) & (x != 0)] == 1).all()
    x = np.concatenate((special, some))
    with np.errstate(all="ignore"):
        expected = in_range(1.0 / (x.astype(number) + number(EPS)).astype(np.float64))
    np.testing.assert_array_max_ulp(apply("inv.m", x, number), expected.astype(number), 1)


def test_without_avx512_the_same_values(monkeypatch):
    """The code for any processor, compiled beside that of this one; and with AVX-512 that for processors that are quick
    at dividing."""
    x = np.concatenate((np.linspace(-90, 90, 3801), 10.0 ** np.linspace(-30, 30, 99), SPECIAL))
    names = ("exp.m", "log.m", "abslog.m", "sqrt.m", "sigmoid.m", "tanh.m", "mish.m", "square.m", "inv.m")
    wanted = {(name, number): apply(name, x, number) for name in names for number in (np.float64, np.float32)}
    avx512, flushes = emit.has_avx512, emit.FLUSHES
    monkeypatch.setattr(emit, "divides", lambda context: True)
    for number, any_processor in itertools.product((np.float64, np.float32), (True, False)):
        monkeypatch.setattr(emit, "FLUSHES", flushes and not any_processor)
        monkeypatch.setattr(emit, "has_avx512", (lambda context: False) if any_processor else avx512)
        plain = numba.njit(
            [machine._signatures(numba.float64 if number is np.float64 else numba.float32)["run"]],
            error_model="numpy",
        )(machine._make_run("plain"))
        monkeypatch.setattr(machine, "compiled", lambda name, double=True, plain=plain: plain)
        for name in names:
            found = apply(name, x, number)
            np.testing.assert_allclose(found, wanted[name, number], rtol=16 * np.finfo(number).eps, atol=0)
            assert not np.signbit(found[found == 0]).any()
        np.testing.assert_array_equal(read(number) != 0, [False, False, True, False] * 20)


def test_a_nan_anywhere_is_seen():
    for place in range(40):
        x = np.ones((1, 40), np.float32)
        x[0, place] = np.nan
        code = [(machine.TAKE, 0, 0, 0, 0, 0, 0)]
        code += [(machine.TOTAL, kind, 0, 0, 0, kind, 0) for kind in (emit.SUM, emit.MIN, emit.MAX)]
        assert np.isnan(run(code, [x], totals=7)[0][[emit.SUM, emit.MIN, emit.MAX]]).all()


TINY = np.array([[1e-40, -1e-40, 1.2e-38, -0.0] * 20], np.float32)


def read(number) -> np.ndarray:
    out = np.empty(TINY.shape, number)
    run([(machine.TAKE, 0, 0, 0, 0, 0, 0), (machine.COPY_OUT, 0, 0, 0, 0, 1, 0)], [TINY], number, out=out)
    return out[0]


@pytest.mark.parametrize("number", [np.float64, np.float32])
def test_subnormal_elements_are_read_as_zero(number):
    np.testing.assert_array_equal(read(number) != 0, [False, False, True, False] * 20)
    assert not np.signbit(read(number)).any()


def test_the_key_of_what_is_kept_sees_every_source_file(monkeypatch, tmp_path: Path):
    folder = Path(machine.__file__).parent
    names = (
        "lanes", "functions", "kernels", "emit", "columns", "moves", "layout", "atomics", "join", "gram", "machine",
    )  # fmt: skip
    for name in names:
        (tmp_path / f"{name}.py").write_bytes((folder / f"{name}.py").read_bytes())
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "machine.py"))
    seen = {machine._fingerprint()}
    for name in names:
        with (tmp_path / f"{name}.py").open("a") as file:
            file.write("\n")
        seen.add(machine._fingerprint())
    assert len(seen) == len(names) + 1
