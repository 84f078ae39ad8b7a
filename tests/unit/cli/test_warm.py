"""``nearcache warm`` fills a store from a file, and can be started again."""

import json

import numpy as np
import pytest

import nearcache.cli.warm_rows
from nearcache import EmbeddingCache


def row(i, size=4):
    return {"text": f"text {i}", "vector": [float(i)] * size}


def written(path, lines):
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def document(result, status=0):
    assert result.exit_code == status, result.output
    return json.loads(result.stdout)


@pytest.fixture
def warm(command, url):
    return lambda file, *more: command(
        "warm", file, "--model", "m", "--store", url, "--json", *more
    )


def stored(url, count):
    with EmbeddingCache(url) as cache:
        return cache.get_batch([f"text {i}" for i in range(count)], "m")


def test_pairs_are_stored_and_a_second_run_skips_them(warm, url, tmp_path):
    file = written(tmp_path / "v.jsonl", [json.dumps(row(i)) for i in range(600)])
    assert document(warm(file))["written"] == 600
    vectors, found = stored(url, 600)
    assert found.all()
    assert (vectors[:, 0] == np.arange(600)).all()
    again = document(warm(file))
    assert (again["written"], again["already_stored"]) == (0, 600)


def test_csv_and_npz_are_read_too(warm, url, tmp_path):
    lines = ["text,vector", '"text 0","[0, 0]"', "text 1,1,1"]
    assert document(warm(written(tmp_path / "v.csv", lines)))["written"] == 2
    np.savez(tmp_path / "v.npz", texts=["text 2", "text 3"], vectors=np.full((2, 2), 5.0))
    assert document(warm(tmp_path / "v.npz"))["written"] == 2
    assert stored(url, 4)[1].all()


def test_lines_that_cannot_be_read_are_counted_and_named(warm, url, tmp_path):
    lines = [json.dumps(row(0)), "garbage", '{"text": 7}', '{"text": "x", "vector": [null]}']
    lines += [json.dumps(row(1, size=3)), json.dumps(row(2)), '{"text": "x", "vector": [1e300]}']
    file = written(tmp_path / "v.jsonl", lines)
    file.write_bytes(file.read_bytes() + b"\xff\xfe\n")
    found = document(warm(file), status=1)
    assert (found["written"], found["unreadable"]) == (2, 6)
    assert [bad["line"] for bad in found["first_unreadable"]] == [2, 3, 4, 5, 7, 8]
    assert stored(url, 3)[1].tolist() == [True, False, True]


def test_texts_without_a_vector_are_embedded_by_the_provider(warm, url, tmp_path, monkeypatch):
    asked = []

    class Provider:
        def __init__(self, url, key, model):
            assert url == "http://provider/v1"

        def __call__(self, texts):
            asked.extend(texts)
            return np.ones((len(texts), 4), np.float32)

    monkeypatch.setattr(nearcache.cli.warm_rows, "Upstream", Provider)
    file = written(tmp_path / "texts.txt", ["text 0", "text 1", "text 0"])
    assert document(warm(file), status=1)["without_vector"] == 2
    assert document(warm(file, "--upstream", "http://provider/v1"))["embedded"] == 2
    assert document(warm(file, "--upstream", "http://provider/v1"))["already_stored"] == 2
    assert asked == ["text 0", "text 1"]


def test_ctrl_c_keeps_what_was_done(warm, url, tmp_path, monkeypatch):
    file = written(tmp_path / "v.jsonl", [json.dumps(row(i)) for i in range(100)])
    keep = nearcache.cli.warm._Work._put
    calls = []

    def interrupted(self, rows):
        if calls:
            raise KeyboardInterrupt
        calls.append(rows)
        keep(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(nearcache.cli.warm._Work, "_put", interrupted)
        result = warm(file, "--batch", "40")
    assert result.exit_code == 130
    assert json.loads(result.stdout)["written"] == 40
    again = document(warm(file, "--batch", "40"))
    assert (again["written"], again["already_stored"]) == (60, 40)


def test_what_cannot_work_is_wrong_usage(warm, tmp_path):
    bad = written(tmp_path / "bad.npz", ["nonsense"])
    assert warm(bad).exit_code == 2
    assert warm(written(tmp_path / "t.txt", ["x"]), "--upstream", "nowhere").exit_code == 2
    assert warm(tmp_path / "missing.jsonl").exit_code == 2
