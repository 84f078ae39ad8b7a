"""The five passes of the demo: what reaches the model, and whether every vector is the model's."""

from contextlib import contextmanager

import numpy as np
import pytest

from nearcache import EmbeddingCache, StoreError
from nearcache.cli import fresh_process, passes
from nearcache.cli.fresh_process import ProcessFailed, answer
from nearcache.cli.model import MODEL
from nearcache.cli.passes import Pass, Recorder, edited, open_cache, run_all

TEXTS = [f"passage {n % 280} of a text with several words" for n in range(300)]


@contextmanager
def silent(_name, _total):
    yield lambda _done, _all: None


def run(model, url, meter=silent, new_process=fresh_process.embed, texts=TEXTS):
    return run_all(texts, model, url, "tests", meter, new_process)


def test_what_reaches_the_model(model, url):
    done, dimension = run(model, url)
    assert [(each.name, each.texts, each.model_calls) for each in done] == [
        ("cold", 300, 280),
        ("warm near", 300, 0),
        ("new process, warm store", 300, 0),
        ("1 % of passages edited", 300, 3),
        ("every passage twice", 560, 280),
    ]
    assert dimension == 8
    assert [each.differing for each in done] == [0] * 5
    assert all(each.seconds > 0 for each in done)
    assert sum(map(len, model.batches)) == 280 + 3 + 280


def test_progress_is_told(model, url):
    told = {}

    @contextmanager
    def meter(name, total):
        yield lambda done, all_: told.setdefault(name, []).append((done, all_, total))

    run(model, url, meter)
    assert told["cold"][-1] == (300, 300, 300)
    assert len(told["cold"]) > 3  # a bar that moves
    assert told["every passage twice"][-1] == (560, 560, 560)


def test_a_full_namespace_is_neither_used_nor_touched(model, url):
    with EmbeddingCache(url, namespace="tests") as theirs:
        theirs.put(TEXTS[0], np.ones(8, np.float32), MODEL)
    done, _ = run(model, url)
    assert done[0].model_calls == 280
    assert done[0].differing == 0
    with EmbeddingCache(url, namespace="tests") as theirs:
        assert theirs.get(TEXTS[0], MODEL).tolist() == [1.0] * 8


def test_nothing_is_left_in_the_store(model, url, monkeypatch):
    monkeypatch.setattr(passes, "token_hex", lambda _: "run")
    run(model, url)
    with EmbeddingCache(url, namespace="tests") as cache:
        for view in ("run-all", "run-twice"):
            assert not cache.view(view).get_batch(TEXTS, MODEL)[1].any()


def test_what_was_written_is_forgotten_after_a_failure_too(model, url, monkeypatch):
    monkeypatch.setattr(passes, "token_hex", lambda _: "run")

    def fails(*_):
        raise ProcessFailed("no")

    with pytest.raises(ProcessFailed):
        run(model, url, new_process=fails)
    with EmbeddingCache(url, namespace="tests") as cache:
        assert not cache.view("run-all").get_batch(TEXTS, MODEL)[1].any()


def test_a_tampered_vector_is_seen(model, url, monkeypatch):
    monkeypatch.setattr(passes, "token_hex", lambda _: "run")

    @contextmanager
    def meter(name, _total):
        if name.startswith("new process"):
            with EmbeddingCache(url, namespace="tests") as cache:
                view = cache.view("run-all")
                (row,), _ = view.get_batch(TEXTS[100:101], MODEL)
                view.put(TEXTS[100], np.nextafter(row, np.float32(9)), MODEL)
        yield lambda _done, _all: None

    done, _ = run(model, url, meter)
    assert [each.differing for each in done] == [0, 0, 1, 0, 0]


def test_a_store_that_is_not_there_is_an_error(model, tmp_path):
    with pytest.raises(StoreError):
        run(model, f"sqlite:///{tmp_path}/nowhere/x.db")
    assert model.batches == []


# The verifier


def test_one_bit_differs(model):
    recorder = Recorder(model)
    rows = recorder(["a", "b", "c"])
    assert recorder.differing(["c", "a", "a"], rows[[2, 0, 0]]) == 0
    rows[1, 3] = np.nextafter(rows[1, 3], np.float32(1))
    assert recorder.differing(["a", "b", "c", "b"], rows[[0, 1, 2, 1]]) == 2


def test_minus_zero_is_not_zero():
    recorder = Recorder(lambda texts: np.zeros((len(texts), 2), np.float32))
    assert recorder.differing(["a"], -recorder(["a"])) == 1


@pytest.mark.parametrize(
    "wrong", [np.zeros((1, 8), np.float32), np.zeros((2, 8)), np.zeros((2, 7), np.float32)]
)
def test_another_shape_or_type_is_all_wrong(model, wrong):
    recorder = Recorder(model)
    recorder(["a", "b"])
    assert recorder.differing(["a", "b"], wrong) == 2


def test_what_the_model_returned_is_not_what_the_cache_may_change(model):
    recorder = Recorder(model)
    rows = recorder(["a"])
    rows += 1
    assert recorder.differing(["a"], rows) == 1


# Edits


@pytest.mark.parametrize("count,changed", [(1, 1), (99, 1), (300, 3), (2000, 20)])
def test_one_of_a_hundred_is_edited(count, changed):
    texts = [f"passage {n}, and more" for n in range(count)]
    result = edited(texts)
    assert sum(a != b for a, b in zip(texts, result, strict=True)) == changed
    assert len(set(result) - set(texts)) == changed


@pytest.mark.parametrize("texts", [["edited"], ["word"] * 200, ["edited", "edited edited"], ["é"]])
def test_an_edit_is_always_a_new_text(texts):
    result = edited(texts)
    changed = [text for text in result if text not in texts]
    assert len(changed) == len(set(changed)) == max(1, len(texts) // 100)


# The new process


def test_the_new_process_loads_the_model_once_for_what_is_missing(model, url):
    texts = [f"text {n}" for n in range(200)]
    recorder = Recorder(model)
    with open_cache(url, "tests", 10) as cache:
        cache.view("v").wrap(recorder, model=MODEL)(texts[:10])
    recorder(texts[10:])  # the cache never saw these
    loads = []

    def load():
        loads.append(1)
        return model

    job = {"name": "n", "url": url, "namespace": "tests", "view": "v", "texts": texts}
    done = answer(job, recorder.expected(texts), load)
    assert (done.texts, done.model_calls, done.differing) == (200, 190, 0)
    assert loads == [1]


def test_the_new_process_is_another_and_leaves_no_file(model, url, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    recorder = Recorder(model)
    with open_cache(url, "tests", 2) as cache:
        vectors = cache.view("v").wrap(recorder, model=MODEL)(["a", "ü"])
    done = fresh_process.embed("name", url, "tests", "v", ["ü", "a"], vectors[::-1])
    assert done == Pass("name", 2, 0, done.seconds, 0)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_new_process_that_fails_says_why():
    with pytest.raises(ProcessFailed, match="unknown store scheme"):
        fresh_process.embed("n", "nope://", "tests", "v", ["a"], np.zeros((1, 8), np.float32))
