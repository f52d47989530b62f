"""Journals: what a killed run leaves behind is continued, what belongs to another run is refused."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest

from proxforge.bench.journal import journal, replacing
from proxforge.grammar.errors import ProxforgeError

HEADER = {"recipe": "a", "sizes": (1, 2)}


def opened(path, header=HEADER):
    return journal(path, header, lambda row: row["n"], "a journal of numbers")


def test_rows_are_there_when_it_is_opened_again(tmp_path):
    path = tmp_path / "folder" / "j.jsonl"
    for n in range(3):
        with opened(path) as lines:
            assert lines.rows == list(range(n))
            lines.append({"n": n})
    assert path.read_text().splitlines()[1:] == [json.dumps({"n": n}) for n in range(3)]


def test_a_line_without_its_end_is_cut_off(tmp_path):
    path = tmp_path / "j.jsonl"
    with opened(path) as lines:
        lines.append({"n": 1})
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"n": 2, "text": "\xc3')
    with opened(path) as lines:
        assert lines.rows == [1]
    assert path.read_bytes() == whole
    path.write_bytes(whole[:5])
    with opened(path) as lines:
        assert lines.rows == []


@pytest.mark.parametrize("row", ["3", "{}", "[", '{"n": 1}{', "null"])
def test_what_is_no_journal_is_told_and_left_alone(tmp_path, row):
    path = tmp_path / "j.jsonl"
    path.write_text(json.dumps(HEADER) + "\n" + row + "\n")
    with pytest.raises(ProxforgeError, match="is not a journal of numbers") as found, opened(path):
        pass
    assert found.value.kind == "file"
    assert path.read_text().endswith(row + "\n")


def test_another_header_is_told_with_its_difference(tmp_path):
    path = tmp_path / "j.jsonl"
    with opened(path) as lines:
        lines.append({"n": 1})
    message = "begun with recipe 'a', this run has recipe 'b'"
    with pytest.raises(ProxforgeError, match=message), opened(path, {**HEADER, "recipe": "b"}):
        pass
    with opened(path) as lines:
        assert lines.rows == [1]


def test_one_process_at_a_time(tmp_path):
    path = tmp_path / "j.jsonl"
    with opened(path), pytest.raises(ProxforgeError, match="another process is writing"), opened(path):
        pass
    with opened(path):
        pass


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ProxforgeError, match="cannot write"), opened(tmp_path / "file" / "j.jsonl"):
        pass


def test_without_a_path_nothing_is_kept():
    with opened(None) as lines:
        lines.append({"n": 1})
        assert lines.rows == []


def test_a_file_is_replaced_when_it_is_whole_and_not_before(tmp_path):
    path = tmp_path / "f"
    path.write_text("old")
    with suppress(KeyError), replacing(path) as file:
        file.write("new")
        raise KeyError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    with replacing(path) as file:
        file.write("new")
    assert path.read_text() == "new"
