"""The fused kernel, its C++ compiled for the CPU: every op and random programs against the reference; and its proof."""

from __future__ import annotations

import ctypes
import dataclasses
import shutil
import subprocess
import warnings
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxforge.bench.agreement.compare import measure_agreement
from proxforge.bench.agreement.programs import random_source
from proxforge.bench.speed.engines import program_of
from proxforge.bench.speed.workloads import evolved_workload
from proxforge.grammar.errors import ProxforgeError
from proxforge.grammar.expr import Pool
from proxforge.grammar.ops import OPS, Form
from proxforge.grammar.parse import parse
from proxforge.grammar.types import Kind
from proxforge.stats_cache.memory import MemoryCache
from proxforge.vm.backends import torch as torch_backend
from proxforge.vm.backends.fused import launch, proof, run, sweep
from proxforge.vm.backends.fused.plan import plan
from proxforge.vm.backends.fused.table import (
    AFFINE,
    CHUNK,
    COLUMNWISE,
    ELEMENTS,
    FINISHING,
    LANES,
    OPERATIONS,
    SCALARS,
    SHARED,
    source,
)
from proxforge.vm.backends.torch import TorchBackend
from proxforge.vm.compile import compile_nodes
from proxforge.vm.evaluate import Evaluator
from proxforge.vm.register import registered
from tests.backend.test_backends import CASES, SOURCES, agree, operands
from tests.backend.test_register import CENTRED, DISTANCE, HYPOT, MEDIAN
from tests.emulation import Emulation, library, offer, use
from tests.random_programs import random_score

BY_TORCH = {"@", "gram", "nuclear_norm", "slogdet"}
"""Ops on whole segments."""
EDGES = random_source(
    8, [(1, 129, 1, 1), (65, 128, 1, 1), (64, 127, 1, 1), (3, 1365, 1, 1), (3, 1366, 1, 1), (33, 250, 1, 2)]
)
"""Rows, columns and elements around a tile (128), a strip (64 rows) and a chunk (4096 elements)."""


@pytest.fixture
def emulation(monkeypatch):
    made = Emulation()
    use(monkeypatch, made)
    return made


def every_op() -> list:
    pool = Pool()
    usable = [o for o in CASES if not (o.op.no_scalar and o.operands == (Kind.SCALAR,))]
    return [pool.score(pool.apply(o.op, *args)) for o in usable for args in operands(pool, o.op, o.operands)]


def evaluator(source, **options) -> Evaluator:
    return Evaluator(source, range(len(source.networks)), backend_name="torch", device="cpu", **options)


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_every_op_of_every_kind(emulation, name):
    assert agree(SOURCES[name], every_op()) > 100
    assert set(emulation.launches) == {"sweep", "finish", "finish_columns", "scalars"}
    assert evaluator(SOURCES[name]).backend == "torch (cpu, fused kernel)"


@pytest.mark.parametrize("name", sorted(SOURCES))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), depth=st.integers(2, 5))
def test_random_populations(emulation, name, seed, depth):
    rng, pool = np.random.default_rng(seed), Pool()
    agree(SOURCES[name], [random_score(rng, pool, depth) for _ in range(5)])


def test_random_programs_on_segments_that_are_hardly_numbers(emulation):
    found = measure_agreement("torch", 900, seed=3)
    assert not found.wrong, found.wrong[:5]
    assert found.statuses["ok"] > 800


def test_sizes_around_a_tile_a_strip_and_a_chunk(emulation):
    pool, nodes = Pool(), []
    reductions = [op for op in OPS.values() if op.form is Form.REDUCE and op.name not in BY_TORCH]
    for statistic in ("qkv.w", "fc1.w", "proj.w", "fc2.g"):
        for name in ("identity", "softmax", "log_softmax", "normalize", "min_max", "sign"):
            value = pool.apply(OPS[name], pool.statistic(statistic))
            nodes += [pool.score(pool.apply(op, value)) for op in reductions]
    shapes = {EDGES.shape(i, s, 0) for i in range(6) for s in ("qkv.w", "fc1.w", "proj.w", "fc2.g")}
    assert {CHUNK - 1, CHUNK + 2} <= {r * c for r, c in shapes}
    assert agree(EDGES, nodes) > 120


def test_torch_is_left_what_needs_whole_segments_alone(emulation, monkeypatch):
    unary = {op.mnemonic or op.name for op in OPS.values() if op.elementwise or op.name in (*AFFINE, *COLUMNWISE)}
    assert unary == (set(ELEMENTS) - {"one", "log_square"}) | set(AFFINE) | set(COLUMNWISE)
    on_scalars = {
        o.op.mnemonic or o.op.name for o in CASES if set(o.operands) == {Kind.SCALAR} and o.op.form is not Form.LAYERS
    }
    assert on_scalars - set(SCALARS) == {"std"}  # which has no value
    seen = set()

    def watched(op, kinds, found):
        seen.add(op.name)
        return torch_backend.apply(op, kinds, found)

    monkeypatch.setattr(run, "apply", watched)
    evaluator(SOURCES["normal"]).run(every_op())
    assert seen == BY_TORCH


def test_a_population_reads_each_statistic_in_one_launch(emulation):
    pool = Pool()
    texts = [f"{r}({f}(qkv.w) * qkv.g)" for r in ("sum", "std", "max") for f in ("exp", "abs", "tanh", "sigmoid")]
    source = random_source(1, [(4, 6, 5, 3)])
    chosen = evaluator(source)
    chosen.run([parse(t, pool) for t in texts])
    assert emulation.launches == {"sweep": 1, "finish": 1}


def test_the_bytes_are_the_same_beside_others_again_and_in_other_launches(emulation, monkeypatch):
    rng, pool = np.random.default_rng(1), Pool()
    nodes = [*every_op(), *(random_score(rng, pool, 4) for _ in range(60))]
    together = evaluator(EDGES).run(nodes).scores
    np.testing.assert_array_equal(evaluator(EDGES).run(nodes).scores, together)
    one_by_one = evaluator(EDGES)
    np.testing.assert_array_equal(np.concatenate([one_by_one.run([n]).scores for n in nodes]), together)
    emulation.launches.clear()
    evaluator(EDGES).run(nodes)
    before = emulation.launches["sweep"]
    monkeypatch.setattr(sweep, "ROOM", 12)
    np.testing.assert_array_equal(evaluator(EDGES).run(nodes).scores, together)
    assert emulation.launches["sweep"] > 1.5 * before


def test_remembered_scalars_are_read(emulation):
    pool = Pool()
    first, second = parse("frobenius(sigmoid(qkv.w))", pool), parse("frobenius(sigmoid(qkv.w)) * mean(qkv.w)", pool)
    chosen = evaluator(SOURCES["normal"])
    chosen.run([first])
    found = chosen.run([second])
    assert (chosen.counters.reduced, chosen.counters.recalled) == (2, 1)
    np.testing.assert_array_equal(found.scores, evaluator(SOURCES["normal"]).run([second]).scores)


def test_ops_of_a_user_go_to_torch(emulation):
    one = dataclasses.replace(CENTRED, name="one")  # which the kernel has for something else
    with registered(CENTRED), registered(HYPOT), registered(MEDIAN), registered(DISTANCE), registered(one):
        pool = Pool()
        texts = [
            "mean(hypot(exp(qkv.w), centred(sigmoid(qkv.g))))",
            "median(normalize(qkv.w)) * max(qkv.g)",
            "frobenius(hypot(median(abs(qkv.w)), qkv.g) + 1)",
            "exp(hypot(mean(qkv.w), median(qkv.g)))",
            "distance(softmax(centred(qkv.w)), qkv.g)",
            "frobenius(one(qkv.w)) + one(max(qkv.g))",
        ]
        assert agree(SOURCES["normal"], [parse(t, pool) for t in texts]) == len(texts)


def test_matrices_that_do_not_fit_together_are_named(emulation):
    source = MemoryCache([{"qkv.w": [np.ones((3, 5))], "qkv.g": [np.ones((3, 4))]}])
    with pytest.raises(ProxforgeError, match=r"matrices \['3q', 'd'\] of one layer have the shapes \(3, 4\), \(3, 5\)"):
        evaluator(source).run([parse("sum(exp(qkv.w) * qkv.g)")])


def test_a_thousand_programs_fit_in_few_launches():
    (phase, _) = plan(program_of(evolved_workload(1000, 3000).trees)).phases
    assert len(phase.sweeps) <= 3
    assert max(s.registers for s in phase.sweeps) < sweep.ROOM


def test_a_formula_that_does_not_fit_runs_op_by_op(emulation, monkeypatch):
    node = parse("sum(exp(qkv.w) + qkv.g)")
    wanted = evaluator(SOURCES["normal"]).run([node]).scores
    emulation.launches.clear()
    monkeypatch.setattr(sweep, "ROOM", 1)
    assert plan(compile_nodes([node])) is None
    np.testing.assert_allclose(evaluator(SOURCES["normal"]).run([node]).scores, wanted, rtol=1e-12)
    assert not emulation.launches


def test_without_a_gpu_nothing_changes():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chosen = TorchBackend(SOURCES["normal"], [0], "cpu")
    assert (chosen.device, chosen._launcher) == ("cpu", None)


class Changed(Emulation):
    """One number of the code for another, in one function of the kernel: as if the kernel did that wrong."""

    def __init__(self, kernel: str, argument: int, column: int, wrong: int, instead: int) -> None:
        super().__init__()
        self._at, self._numbers = (kernel, argument, column), (wrong, instead)

    def __call__(self, kernel, blocks, shared, arguments):
        name, argument, column = self._at
        if kernel == name:
            code = arguments[argument].clone()
            code[:, column][code[:, column] % 256 == self._numbers[0]] = self._numbers[1]
            arguments = (*arguments[:argument], code, *arguments[argument + 1 :])
        super().__call__(kernel, blocks, shared, arguments)


def test_the_trial_passes_here(monkeypatch):
    offer(monkeypatch, Emulation)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert TorchBackend(SOURCES["normal"], [0], "cpu").device == "cpu, fused kernel"


def made(source, launcher):
    return TorchBackend(source, range(len(source.networks)), "cpu", launcher)


OTHER = {"SUM": "ABSOLUTES", "COLUMN": "LOG_SOFTMAX", "STORE": "one", "MOMENTS": "SUM", "SOFTMAX": "SCALE"}


@pytest.mark.parametrize("name", [n for n in OPERATIONS if n not in ("CONSTANT", "one", "log_square")])
def test_the_trial_sees_every_instruction_of_a_sweep(name):
    instead = OPERATIONS[OTHER.get(name, "one" if name.islower() else "SUM")]
    assert proof.differences(Changed("sweep", 2, 0, OPERATIONS[name], instead), made)


@pytest.mark.parametrize("name", sorted({element for element, _ in SCALARS.values()}))
def test_the_trial_sees_every_instruction_on_scalars(name):
    instead = OPERATIONS["exp" if name != "exp" else "abs"]
    assert proof.differences(Changed("scalars", 0, 0, OPERATIONS[name], instead), made)


@pytest.mark.parametrize("name", list(FINISHING))
def test_the_trial_sees_every_way_to_finish(name):
    instead = FINISHING["frobenius" if name != "frobenius" else "sum"]
    assert proof.differences(Changed("finish", 0, 0, FINISHING[name], instead), made)


BROKEN = {
    "lanes are joined wrongly": ("found[lane + apart]", "found[lane]"),
    "the last element is left out": ("n - base < wide ? n - base : wide", "n - base - 1 < wide ? n - base - 1 : wide"),
    "a chunk is left out": ("slot >= 0 && i < chunks", "slot >= 0 && i < 2 && i < chunks"),
    "a strip is left out": ("s < strips; ++s", "s < 1; ++s"),
    "the range is float64's": ("size > LARGEST", "size > 1e300"),
    "what is small is kept": ("size < SMALLEST", "size < 0.0"),
    "NaN is lost by the smallest": ("b < a || b != b", "b < a"),
    "columns are one apart": ("unsigned(base + k) %", "unsigned(base + k + 1) %"),
    "it does not compile": ("KERNEL sweep(", "KERNEL swept("),
}


@pytest.mark.parametrize("change", list(BROKEN.values()), ids=list(BROKEN))
def test_a_kernel_that_fails_its_trial_is_not_used(monkeypatch, change):
    broken = source().replace(*change)
    assert broken != source()
    node = parse("sum(softmax(exp(qkv.w))) + min(qkv.g)")
    wanted = made(SOURCES["normal"], None).run(compile_nodes([node]))[0]

    class Broken(Emulation):
        def __call__(self, kernel, blocks, shared, arguments):
            try:
                super().__call__(kernel, blocks, shared, arguments)
            except AttributeError as error:
                raise launch.KernelError(f"no function {error}") from None

    offer(monkeypatch, lambda: Broken(broken))
    with pytest.warns(UserWarning, match="fused kernel is not used on cpu, which runs op by op instead") as told:
        chosen = TorchBackend(SOURCES["normal"], range(6), "cpu")
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is said once
        again = TorchBackend(SOURCES["normal"], range(6), "cpu")
    assert chosen.device == again.device == "cpu, op by op, as the fused kernel failed its trial"
    np.testing.assert_array_equal(chosen.run(compile_nodes([node]))[0], wanted)


def test_cuda_without_its_libraries_is_said(monkeypatch):
    offer(monkeypatch, lambda: launch.CudaLauncher(torch.device("cuda", 0)))
    reason = "ModuleNotFoundError: No module named 'cuda'|KernelError: this torch was not built for CUDA|RuntimeError"
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.warns(UserWarning, match=reason):
        TorchBackend(SOURCES["normal"], [0], "cpu")


class Driver:
    """CUDA's driver as `launch` calls it, on the emulated kernel: arguments are copied from the addresses given."""

    KINDS = {  # noqa: RUF012
        "sweep": "MMPiPPPiiiiiii",
        "finish": "PiPPPiii",
        "finish_columns": "PPiiii",
        "scalars": "PPPi",
    }
    TYPES = {"M": run.Pointers, "P": ctypes.c_void_p, "i": ctypes.c_int}  # noqa: RUF012

    def __init__(self) -> None:
        self.library = library(source())
        self.streams: set[int] = set()

    def cuLaunchKernel(self, name, x, y, z, a, b, c, shared, stream, at, extra):
        assert ((y, z), (a, b, c), extra) == ((1, 1), (LANES, 1, 1), 0)
        assert shared <= SHARED
        kinds = self.KINDS[name]
        values = [
            self.TYPES[kind].from_buffer_copy(ctypes.string_at(address, ctypes.sizeof(self.TYPES[kind])))
            for kind, address in zip(kinds, (ctypes.c_void_p * len(kinds)).from_address(at), strict=True)
        ]
        for block in range(x):
            self.library.set_block(block)
            self.library[name](*values)
        self.streams.add(stream)
        return (0,)


def test_cuda_gets_the_arguments_and_the_current_stream(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=77))
    launcher = launch.CudaLauncher.__new__(launch.CudaLauncher)
    launcher._device, launcher._driver = torch.device("cuda", 0), Driver()
    launcher._functions = {name: name for name in launch.FUNCTIONS}
    assert proof.differences(launcher, made) == []
    assert launcher._driver.streams == {77}
    launcher._driver.cuLaunchKernel = lambda *arguments: (719,)
    with pytest.raises(launch.KernelError, match="CUDA says 719"):
        launcher("scalars", 1, 0, [])


@pytest.mark.parametrize("architecture", ["sm_75", "sm_80", "sm_90", "sm_100"])
def test_nvrtc_compiles_it(architecture):
    nvrtc = pytest.importorskip(
        "cuda.bindings.nvrtc", reason="cuda.bindings, which comes with torch for CUDA, is missing"
    )
    try:
        nvrtc.nvrtcVersion()
    except RuntimeError as error:
        pytest.skip(f"NVRTC (of torch for CUDA) is missing: {error}")
    assert launch.compiled(architecture).startswith(b"\x7fELF")


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_no_register_of_a_thread_is_spilled(architecture, tmp_path):
    compiler = shutil.which("nvcc")
    if compiler is None:
        pytest.skip("nvcc is not on this machine")
    (tmp_path / "kernel.cu").write_text(source(), encoding="utf-8")
    command = [compiler, *launch.OPTIONS, f"-arch={architecture}", "-cubin", "-Xptxas", "-v", "-o", "k", "kernel.cu"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("0 bytes spill stores, 0 bytes spill loads") == len(launch.FUNCTIONS)
    assert "warning" not in done.stderr
