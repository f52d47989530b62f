"""Ground truth of one's own in CSV and JSON files, and the published tables of cells and ResNets."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from proxforge.bench.truth.base import DataError, load_benchmark
from proxforge.bench.truth.files import load_file
from proxforge.grammar.errors import ProxforgeError

PIT = {"base_dim": 24, "mlp_ratio": 4, "depth": [2, 6, 4], "num_heads": [2, 4, 8]}
OTHER = {**PIT, "base_dim": 32}


def quoted(arch: dict) -> str:
    return '"' + json.dumps(arch).replace('"', '""') + '"'


CSV = f"""# space: pit
# classes: 10
# batch: 3
# default_targets: top1

arch,top1,loss
{quoted(PIT)},71.5,-0.25
{quoted(OTHER)},,1e-3
"""
COLUMNS = """# space: pit
base_dim,mlp_ratio,depth,num_heads,top1
24,4,"[2, 6, 4]","[2, 4, 8]",71.5
32,4,"[2, 6, 4]","[2, 4, 8]",72
"""


@pytest.fixture
def write(tmp_path: Path):
    def save(text: str, name: str = "mine.csv") -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return save


def test_a_csv_file(write):
    loaded = load_benchmark(str(write(CSV)))
    assert (loaded.name, loaded.space, loaded.classes, loaded.batch) == ("mine.csv", "pit", 10, 3)
    assert loaded.archs == (PIT, OTHER)
    np.testing.assert_array_equal(loaded.targets["top1"], [71.5, np.nan])
    np.testing.assert_array_equal(loaded.targets["loss"], [-0.25, 1e-3])
    assert loaded.default_targets == ("top1",)
    assert loaded.recipe() == loaded.recipe().normal()


def test_genes_as_columns(write):
    loaded = load_file(write(COLUMNS))
    assert loaded.archs == (PIT, OTHER)
    assert list(loaded.targets) == ["top1"]
    assert (loaded.classes, loaded.batch) == (100, 2)


def test_a_packed_file_and_a_folder(write, tmp_path):
    with gzip.open(tmp_path / "packed.csv.gz", "wt") as file:
        file.write(CSV)
    assert load_benchmark("packed.csv.gz", tmp_path).archs == (PIT, OTHER)
    assert load_benchmark("mine.csv", write(CSV).parent).archs == (PIT, OTHER)


def test_a_json_file(write):
    networks = [{"arch": PIT, "top1": 71.5, "loss": None}, {"arch": OTHER, "loss": 2}]
    about = {"space": "pit", "name": "ours", "classes": 7, "default_targets": ["loss"]}
    loaded = load_benchmark(str(write(json.dumps({**about, "networks": networks}), "mine.json")))
    assert (loaded.name, loaded.classes, loaded.default_targets) == ("ours", 7, ("loss",))
    np.testing.assert_array_equal(loaded.targets["top1"], [71.5, np.nan])
    np.testing.assert_array_equal(loaded.targets["loss"], [np.nan, 2])


def test_a_space_with_one_gene_needs_no_json(write):
    cell = "|none~0|+|none~0|skip_connect~1|+|nor_conv_1x1~0|none~1|none~2|"
    loaded = load_file(write(f"# space: nas-bench-201\narch,acc\n{cell},90\n"))
    assert loaded.archs[0]["cell"] == ["none", "none", "skip_connect", "nor_conv_1x1", "none", "none"]
    loaded = load_file(write("# space: cifar-resnet\nblocks,acc\n135,90\n"))
    assert loaded.archs == ({"blocks": [1, 3, 5]},)


def test_a_space_of_ones_own(write, tmp_path, monkeypatch):
    (tmp_path / "my_space_module.py").write_text(
        "from proxforge.stats_cache.spaces.cifar_resnet import CifarResNet\n"
        "class Mine(CifarResNet):\n    name = 'my_space_module:Mine'\n    classes = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    loaded = load_file(write("# space: my_space_module:Mine\nblocks,acc\n111,1\n333,2\n"))
    assert (loaded.classes, loaded.sizes[1].depth) == (3, 21)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("arch,top1\n{},1\n", "does not name its space; write a line '# space: pit'"),
        ("# space: pitt\narch,top1\n{},1\n", "unknown space 'pitt'"),
        ("# spaces: pit\narch,top1\n", "unknown key 'spaces'; did you mean 'space'"),
        ("# space: pit\narch,top1\n", "has no networks"),
        ("", "has the columns none; expected one called 'arch'"),
        (
            "# space: pit\nnet,top1\nx,1\n",
            "columns net, top1; expected one called 'arch', or those of the genes base_dim",
        ),
        ("# space: pit\narch,top1,top1\n{},1,1\n", "two columns of one name"),
        (f"# space: pit\narch\n{quoted(PIT)}\n", "has no target"),
        (f"# space: pit\narch,top1\n{quoted(PIT)},1\n{quoted(PIT)}\n", "line 4: expected 2 values"),
        (f"# space: pit\narch,top1\n{quoted(PIT)},1,2\n", "line 3: expected 2 values, one for each of arch, top1"),
        (f"# space: pit\narch,top1\n{quoted(PIT)},high\n", "line 3: 'top1' is 'high'; expected a number, or nothing"),
        (f"# space: pit\narch,top1\n{quoted(PIT)},nan\n", "'top1' is 'nan'"),
        (f"# space: pit\narch,top1\n{quoted(PIT)},inf\n", "'top1' is 'inf'"),
        ("# space: pit\narch,top1\n{},1\n", "line 3 is not a network of pit: an architecture of pit lacks the gene"),
        ('# space: pit\narch,top1\n"{,1\n', "after line 2: unexpected end of data"),
        ("# space: pit\n# classes: many\narch,top1\n{},1\n", "classes is 'many'; expected a whole number from 1"),
        (f"# space: pit\n# default_targets: top5\narch,top1\n{quoted(PIT)},1\n", "has no target 'top5', only top1"),
        ("# space: cifar-resnet\nblocks,acc\n13,90\n", "'blocks' has 2 values; expected a list of 3"),
    ],
)
def test_what_is_wrong_in_a_csv_file_is_named(write, text, message):
    with pytest.raises(ProxforgeError, match=message) as caught:
        load_file(write(text))
    assert caught.value.kind == "data"
    assert "mine.csv" in caught.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "has no list 'networks'"),
        ('{"space": "pit", "networks": [3]}', "network 0 is 3; expected an object with 'arch'"),
        ('{"space": "pit", "networks": [{"arch": [], "a": 1}]}', "network 0 is not a network of pit"),
        ('{"space": "pit", "batch": 0, "networks": []}', "batch is 0"),
        ('{"space": "pit", "nets": 0, "networks": []}', "unknown key 'nets'"),
        (json.dumps({"space": "pit", "networks": [{"arch": PIT, "a": True}]}), "network 0: 'a' is True"),
        (json.dumps({"space": "pit", "networks": [{"arch": PIT, "a": [1]}]}), r"network 0: 'a' is \[1\]"),
    ],
)
def test_what_is_wrong_in_a_json_file_is_named(write, text, message):
    with pytest.raises(DataError, match=message):
        load_file(write(text, "mine.json"))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"none.csv' cannot be read: No such file"):
        load_benchmark(str(tmp_path / "none.csv"))
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="is not text in UTF-8"):
        load_benchmark("a.csv", tmp_path)
    packed = gzip.compress(CSV.encode())
    for name, data in (("cut", packed[:-9]), ("flipped", packed[:40] + b"x" + packed[41:]), ("plain", CSV.encode())):
        (tmp_path / f"{name}.csv.gz").write_bytes(data)
        with pytest.raises(DataError, match=r"is damaged|cannot be read"):
            load_benchmark(f"{name}.csv.gz", tmp_path)


def test_some_of_the_networks(write):
    rows = "".join(f"{a}{b}{c},{a + b + c}\n" for a in (1, 3, 5, 7) for b in (1, 3) for c in (1, 3))
    path = str(write(f"# space: cifar-resnet\nblocks,acc\n{rows}"))
    whole, some, again, other = (load_benchmark(path + end) for end in ("", ":5", ":5:0", ":5:1"))
    assert (len(whole), len(some)) == (16, 5)
    assert some.archs == again.archs != other.archs
    places = [whole.archs.index(arch) for arch in some.archs]
    assert places == sorted(places)
    np.testing.assert_array_equal(some.targets["acc"], whole.targets["acc"][places])
    assert (some.name, other.name) == ("mine.csv:5", "mine.csv:5:1")
    for wrong in (":0", ":17"):
        with pytest.raises(ProxforgeError, match=r"mine.csv has 16 networks"):
            load_benchmark(path + wrong)


def test_published_cells(data_dir):
    loaded = load_benchmark("nas-bench-201", data_dir)
    assert (loaded.space, len(loaded), loaded.classes, loaded.batch) == ("nas-bench-201", 15_625, 10, 16)
    assert loaded.default_targets == ("test_cifar10", "test_cifar100", "test_imagenet16_120")
    assert len(loaded.targets) == 6
    assert loaded.targets["test_cifar10"][0] == 85.8633
    assert loaded.space == "nas-bench-201"
    few = load_benchmark("nas-bench-201:40:2", data_dir / "nas_bench_201")
    assert len(few) == 40
    assert min(size.params for size in few.sizes) >= 73_306


def test_published_resnets(data_dir):
    loaded = load_benchmark("diswot-resnet", data_dir)
    assert (loaded.space, len(loaded), loaded.default_targets) == ("cifar-resnet", 64, ("cifar100", "cifar100_kd"))
    assert loaded.archs[1] == {"blocks": [1, 1, 3]}
    assert loaded.targets["cifar100"][:2].tolist() == [60.2, 67.26]


def test_published_files_that_are_missing(tmp_path):
    for name, file in (("nas-bench-201", "nas_bench_201.csv.gz"), ("diswot-resnet", "resnet_cifar100.csv")):
        with pytest.raises(DataError, match=file):
            load_benchmark(name, tmp_path)
