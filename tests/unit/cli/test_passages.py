"""The texts of the demo: the interpreter's documentation, cut into passages."""

import re
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearcache.cli import passages
from nearcache.cli.passages import SIZE, documentation, documents, split, walk


@pytest.fixture(scope="module")
def corpus():
    return documentation(1500)


def words(text):
    return "".join(re.findall(r"\w", text))


def test_there_are_enough(corpus):
    assert len(corpus.passages) == 1500
    assert corpus.cut_short


def test_they_are_about_500_characters(corpus):
    lengths = [len(passage) for passage in corpus.passages]
    assert 400 < sum(lengths) / len(lengths) < 600
    assert max(lengths) <= SIZE * 3 // 2


def test_natural_repeats_are_kept_and_none_is_made(corpus):
    distinct = len(set(corpus.passages))
    assert 0.5 * len(corpus.passages) < distinct < len(corpus.passages)
    # A passage that comes twice stands in the documents twice.
    whole = "\n".join(islice(documents(), 200))
    for passage in {p for p in corpus.passages if corpus.passages.count(p) > 1}:
        assert whole.count(passage) >= corpus.passages.count(passage)


def test_the_order_is_always_the_same(corpus):
    assert documentation(300).passages == corpus.passages[:300]


def test_topics_are_followed_by_docstrings(monkeypatch):
    topics = documentation(1).passages
    monkeypatch.setattr(passages, "find_spec", lambda _name: None)
    bare = documentation(50)  # a distribution without the topics
    assert len(bare.passages) == 50
    assert bare.passages[0] != topics[0]


def test_a_module_that_is_no_python_has_no_docstrings(tmp_path):
    (tmp_path / "template.py").write_text("def {{name}}():\n")
    assert list(passages._docstrings(tmp_path / "template.py")) == []
    assert list(passages._docstrings(tmp_path / "gone.py")) == []


def test_docstrings_come_in_source_order(tmp_path):
    source = tmp_path / "m.py"
    source.write_text(
        '"""One."""\nclass A:\n    """Two."""\n    def f(self):\n        """Three."""\n'
        'async def g():\n    """Four."""\n    return "\\d"\ndef h(): ""\n'
    )
    assert list(passages._docstrings(source)) == ["One.", "Two.", "Three.", "Four."]


def test_a_limit_beyond_the_end_cuts_nothing_short():
    corpus = passages.Corpus.first("two", iter(["a", "b"]), 2)
    assert corpus.passages == ["a", "b"]
    assert not corpus.cut_short


@given(st.text(st.sampled_from("ab .\n#=*é漢。\r\t"), max_size=400), st.integers(4, 60))
def test_every_word_is_in_one_passage(text, size):
    cut = list(split(text, size))
    assert words("".join(cut)) == words(text)
    assert all(passage.strip() == passage for passage in cut)
    assert all(words(passage) for passage in cut)
    assert all(len(passage) <= size * 3 // 2 for passage in cut)
    at = 0
    for passage in cut:  # slices, in order
        at = text.index(passage, at) + len(passage)


@pytest.mark.parametrize(
    "text,first",
    [
        ("a" * 40 + "\n\n" + "b" * 40, "a" * 40),  # a paragraph's end
        ("a" * 30 + ". " + "b" * 9 + " " + "c" * 40, "a" * 30 + "."),  # a sentence's
        ("a" * 35 + " " + "b" * 60, "a" * 35),  # a word's
        ("a" * 100, "a" * 40),
        ("第" * 30 + "。" + "二" * 60, "第" * 30 + "。"),
    ],
)
def test_cut_where_it_hurts_least(text, first):
    assert next(split(text, 40)) == first


@pytest.mark.parametrize("heading", ["Title\n=====\n\n", "## Title\n\n"])
def test_a_section_gives_the_same_passages_wherever_it_stands(heading):
    section = heading + "What is in it. " * 30
    alone = list(split(section, 100))
    assert list(split("Before it. " * 33 + "\n\n" + section, 100))[-len(alone) :] == alone


def test_walk_is_ordered_and_takes_regular_files(tmp_path):
    for name in ("b/2", "a/9", "a/1", "no/3", "c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "circle").symlink_to(tmp_path)
    (tmp_path / "a" / "broken").symlink_to(tmp_path / "nowhere")
    found = [str(p.relative_to(tmp_path)) for p in walk(tmp_path, lambda name: name != "no")]
    assert found == ["c", "a/1", "a/9", "b/2"]
