"""Embeddings in several processes: one call a text in all of them together, whoever dies."""

import pytest

import embedding_process
from embedders import M, Model, same, until, vector, vectors
from nearcache import EmbeddingCache, Options
from processes import calls, finish, process_of, start_together

process = pytest.fixture(process_of(embedding_process))


def test_eight_processes_at_once_pay_for_each_text_once(process, tmp_path, url):
    processes = [process("embed_all", url, 200) for _ in range(8)]
    start_together(tmp_path, processes)
    for one in processes:
        finish(one)
    assert calls(tmp_path) == {f"t{n}": 1 for n in range(200)}


def test_a_later_process_pays_for_nothing(process, tmp_path, url):
    (tmp_path / "go").touch()
    for _ in range(2):
        finish(process("embed_all", url, 40))
    assert calls(tmp_path) == {f"t{n}": 1 for n in range(40)}


def test_a_process_killed_while_it_loads_delays_the_others_by_its_lease(process, tmp_path, url):
    dying = process("hang", url, 1.0)
    until((tmp_path / "inside").exists, 30)
    dying.kill()
    dying.wait()
    model = Model()
    with EmbeddingCache(url, options=Options(lease=1.0)) as cache:
        assert same(cache.wrap(model, M)("text"), vector("text"))
    assert model.times == {"text": 1}


def test_a_load_longer_than_its_lease_keeps_it(tmp_path, url):
    """The lease is renewed while the load runs: the other process waits, and does not load."""
    import threading

    options = Options(lease=0.3)
    one, two = EmbeddingCache(url, options=options), EmbeddingCache(url, options=options)
    keys = []
    renew = one._tiers.engine.store.renew
    renewed = threading.Event()

    def counting(names, token, seconds):
        renew(names, token, seconds)
        keys.append(names)
        if len(keys) >= 4:  # the lease would have ended by now
            renewed.set()

    one._tiers.engine.sharing.keeper._renew = counting
    inside = threading.Event()

    def before(texts):
        inside.set()
        assert renewed.wait(30)

    model, other = Model(before=before), Model()
    thread = threading.Thread(target=one.wrap(model, M), args=("text",))
    thread.start()
    assert inside.wait(30)
    assert same(two.wrap(other, M)("text"), vector("text"))
    thread.join(30)
    one.close()
    two.close()
    assert len(model.calls) == 1
    assert other.calls == []


FORGETS = {
    "text": lambda cache: cache.invalidate("text", M),
    "hash": lambda cache: cache.invalidate_by_hash(cache.hash_content("text"), M),
    "model": lambda cache: cache.invalidate_by_model(M),
    "everything": lambda cache: cache.clear(),
}


@pytest.mark.parametrize("forget", FORGETS.values(), ids=FORGETS)
def test_what_one_process_forgets_every_process_forgets(process, tmp_path, url, forget):
    with EmbeddingCache(url) as cache:
        cache.put("text", vector("text"), M)
        other = process("hold_near", url, 0.2)
        start_together(tmp_path, [other])
        forget(cache)
        finish(other)
    assert (tmp_path / "gone").exists()


def test_kill_9_of_a_writer_loses_nothing_it_had_written(process, tmp_path):
    import sqlite3

    path = tmp_path / "embeddings.db"
    url = f"sqlite:///{path}"
    for _ in range(3):
        (tmp_path / "written").unlink(missing_ok=True)
        writer = process("keep_writing", url)
        written = tmp_path / "written"
        until(lambda written=written: written.exists() and written.stat().st_size > 1000, 30)
        writer.kill()
        writer.wait()
        texts = [line for line in written.read_text().split("\n")[:-1] if line]
        with EmbeddingCache(url) as cache:
            assert same(cache.get_batch(texts, M)[0], vectors(texts, 256))
        db = sqlite3.connect(path)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        db.close()
