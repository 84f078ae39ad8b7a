"""``nearcache.integrations.sentence_transformers``: on a stand-in with the interface of 6.2.

The package needs PyTorch (gigabytes), so the model here is a small one of our own that has the
signatures of ``SentenceTransformer`` and does with every option what it does.
"""

import numpy as np
import pytest

from embedders import in_threads, same, vector
from nearcache import ConfigError, EmbeddingModel, LoaderError
from nearcache.integrations.sentence_transformers import cached


class Pooling:
    def __init__(self, mode="mean"):
        self.mode = mode

    def get_config_dict(self):
        return {"pooling_mode": self.mode}


class SentenceTransformer:
    """A model whose vector of a text depends on all that it would depend on."""

    def __init__(self, seed=1, pooling="mean", prompts=None, default_prompt_name=None):
        weights = np.random.default_rng(seed).normal(size=(1000, 8)).astype(np.float32)
        self.weights = {"0.embeddings.weight": weights, "0.bias": weights[0]}
        self.modules = [Pooling(pooling)]
        self.prompts = {"query": "", "document": "", **(prompts or {})}
        self.default_prompt_name = default_prompt_name
        self.max_seq_length = 8
        self.truncate_dim = None
        self.calls = []

    def __iter__(self):
        return iter(self.modules)

    def __getitem__(self, place):
        return self.modules[place]

    def __len__(self):
        return len(self.modules)

    def __call__(self, features):
        return {"features": features}

    def state_dict(self):
        return self.weights

    def get_backend(self):
        return "torch"

    def similarity(self, a, b):
        return a @ b.T

    def encode_query(self, inputs, prompt_name=None, prompt=None, **kwargs):
        if prompt_name is None and prompt is None and "query" in self.prompts:
            prompt_name = "query"
        return self.encode(inputs, prompt_name=prompt_name, prompt=prompt, task="query", **kwargs)

    def encode_document(self, inputs, prompt_name=None, prompt=None, **kwargs):
        if prompt_name is None and prompt is None and "document" in self.prompts:
            prompt_name = "document"
        return self.encode(inputs, prompt_name, prompt, task="document", **kwargs)

    def encode(
        self,
        inputs,
        prompt_name=None,
        prompt=None,
        batch_size=32,
        show_progress_bar=None,
        output_value="sentence_embedding",
        precision="float32",
        convert_to_numpy=True,
        convert_to_tensor=False,
        device=None,
        normalize_embeddings=False,
        truncate_dim=None,
        pool=None,
        chunk_size=None,
        **kwargs,
    ):
        if unused := set(kwargs) - {"task", "processing_kwargs"}:
            raise ValueError(f"unknown: {unused}")
        if isinstance(inputs, str):
            return self.encode(
                [inputs], prompt_name, prompt, batch_size, show_progress_bar, output_value,
                precision, convert_to_numpy, convert_to_tensor, device, normalize_embeddings,
                truncate_dim, pool, chunk_size, **kwargs,
            )[0]  # fmt: skip
        self.calls.append(list(inputs))
        if prompt is None:
            prompt = self.prompts.get(prompt_name or self.default_prompt_name, "")
        salt = f"{self.weights['0.bias'][0]} {self.modules[0].mode} {kwargs}"
        texts = [f"{prompt}{text}"[: self.max_seq_length] + salt for text in inputs]
        rows = np.array([vector(text) for text in texts]).reshape(-1, 8)
        rows = rows[:, : truncate_dim or self.truncate_dim]
        if normalize_embeddings:
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        if output_value != "sentence_embedding" or convert_to_tensor or not convert_to_numpy:
            return list(rows)
        return rows if precision == "float32" else (rows > 0).astype(np.int8)


@pytest.fixture
def model():
    return SentenceTransformer()


@pytest.fixture
def ours(model, cache):
    return cached(model, cache)


METHODS = ["encode", "encode_query", "encode_document"]


@pytest.mark.parametrize("method", METHODS)
def test_a_text_is_embedded_once_and_answers_look_like_the_models_own(model, cache, method):
    ours, plain = cached(model, cache), SentenceTransformer()
    for inputs in ("a", ["b", "a", "b"], ["a"]):
        assert same(getattr(ours, method)(inputs), getattr(plain, method)(inputs))
    assert model.calls == [["a"], ["b"]]


def test_query_document_and_plain_are_three_kinds(ours, model):
    for _ in range(2):
        for method in METHODS:
            getattr(ours, method)("a")
    assert len(model.calls) == 3


@pytest.mark.parametrize(
    "options",
    [
        {"prompt": "query: "},
        {"prompt_name": "query"},
        {"normalize_embeddings": True},
        {"truncate_dim": 4},
        {"task": "query"},
        {"processing_kwargs": {"text": {"max_length": 3}}},
    ],
    ids=str,
)
def test_options_that_change_a_vector_are_part_of_the_key(ours, model, options):
    plain = SentenceTransformer()
    for _ in range(2):
        assert same(ours.encode(["a", "b"]), plain.encode(["a", "b"]))
        assert same(ours.encode(["a", "b"], **options), plain.encode(["a", "b"], **options))
    assert len(model.calls) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"max_seq_length": 2},
        {"truncate_dim": 4},
        {"prompts": {"query": "find: "}},
        {"default_prompt_name": "query"},
    ],
    ids=str,
)
def test_so_is_what_may_be_set_on_the_model_at_any_time(ours, model, change):
    ours.encode("a long text")
    for name, value in change.items():
        setattr(model, name, value)
    ours.encode("a long text")
    assert len(model.calls) == 2


def test_what_is_set_on_the_cached_model_is_set_on_the_model(ours, model):
    first = ours.encode("a long text")
    ours.max_seq_length = 3
    ours.prompts = {"query": "Q: "}
    assert (model.max_seq_length, model.prompts) == (3, {"query": "Q: "})
    assert same(ours.encode("a long text"), model.encode("a long text"))
    assert not same(first, ours.encode("a long text"))


def test_another_type_of_numbers_is_another_model(ours, model):
    ours.encode("a")
    model.dtype = np.dtype(np.float16)
    ours.encode("a")
    assert model.calls == [["a"], ["a"]]


def test_a_model_whose_embeddings_are_no_rows_answers_each_time(cache):
    class SparseEncoder(SentenceTransformer):
        """Its tensors are sparse unless one asks otherwise."""

        def encode(self, inputs, prompt_name=None, prompt=None, convert_to_tensor=True, **more):
            return super().encode(inputs, convert_to_tensor=convert_to_tensor, **more)

    ours = cached(SparseEncoder(), cache)
    for method in METHODS[:2]:
        for _ in range(2):
            assert isinstance(getattr(ours, method)(["a", "b"]), list)
    assert len(ours.calls) == 4


@pytest.mark.parametrize("other", [{"seed": 2}, {"pooling": "cls"}], ids=str)
def test_other_weights_and_other_modules_are_another_model(cache, other):
    one, two = SentenceTransformer(), SentenceTransformer(**other)
    for model in (one, two, SentenceTransformer()):
        plain = SentenceTransformer(**(other if model is two else {}))
        assert same(cached(model, cache).encode("a"), plain.encode("a"))
    assert (len(one.calls), len(two.calls)) == (1, 1)


def test_the_same_model_loaded_again_is_the_same(cache):
    again = SentenceTransformer()
    cached(SentenceTransformer(), cache).encode("a")
    cached(again, cache).encode("a")
    assert again.calls == []


def test_a_name_stands_for_weights_that_cannot_be_read(model, cache):
    model.weights = {}
    with pytest.raises(ConfigError, match="name="):
        cached(model, cache)
    model.weights = {"w": object()}
    with pytest.raises(ConfigError, match="name="):
        cached(model, cache)
    cached(model, cache, name="mine")
    model.weights = SentenceTransformer().weights
    named = cached(model, cache, name=EmbeddingModel("mine", revision="2"))
    named.encode("a")
    cached(model, cache, name=EmbeddingModel("mine", revision="3")).encode("a")
    assert len(model.calls) == 2


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 8},
        {"show_progress_bar": False},
        {"device": "cpu"},
        {"convert_to_numpy": True},
    ],
    ids=str,
)
def test_options_that_change_no_vector_are_not_part_of_the_key(ours, model, options):
    ours.encode("a")
    ours.encode("a", **options)
    assert len(model.calls) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"convert_to_tensor": True},
        {"convert_to_numpy": False},
        {"output_value": "token_embeddings"},
        {"output_value": None},
        {"precision": "binary"},
        {"pool": {"processes": []}},
        {"device": ["cpu", "cpu"]},
        {"processing_kwargs": {"text": object()}},
    ],
    ids=str,
)
def test_other_kinds_of_output_come_from_the_model_each_time(ours, model, options):
    ours.encode(["a", "b"])
    for _ in range(2):
        np.testing.assert_array_equal(
            ours.encode(["a", "b"], **options), SentenceTransformer().encode(["a", "b"], **options)
        )
    assert len(model.calls) == 3


@pytest.mark.parametrize("inputs", [[], [{"text": "a"}], [("a", "b")]], ids=str)
def test_so_do_inputs_that_are_no_texts(ours, model, inputs):
    for _ in range(2):
        ours.encode(inputs)
    assert model.calls == [inputs, inputs]


def test_inputs_may_be_named_and_be_an_array(ours, model):
    ours.encode(inputs=np.array(["a", "b"]))
    ours.encode(sentences=["a", "b"])
    ours.encode(("b", "a"), None, None, 8)
    assert model.calls == [["a", "b"]]


def test_options_go_to_the_model_as_they_were_given(ours, model):
    with pytest.raises(ValueError, match="unknown"):
        ours.encode("a", nonsense=1)
    with pytest.raises(TypeError):
        ours.encode()


def test_what_is_embedded_before_a_failure_is_kept(model, cache):
    ours = cached(model, cache, max_batch=2)
    encode = model.encode

    def failing(inputs, **options):
        if "bad" in inputs:
            raise MemoryError("no room")
        return encode(inputs, **options)

    model.encode = failing
    with pytest.raises(MemoryError):
        ours.encode(["a", "b", "c", "d", "bad"])
    model.encode = encode
    ours.encode(["a", "b", "c", "d"])
    assert model.calls == [["a", "b"], ["c", "d"]]


def test_nan_is_an_error_and_not_kept(ours, model):
    encode, model.encode = model.encode, lambda inputs, **_: np.full((len(inputs), 8), np.nan)
    with pytest.raises(LoaderError):
        ours.encode("a")
    model.encode = encode
    assert np.isfinite(ours.encode("a")).all()


def test_threads_run_the_model_one_at_a_time_and_each_text_once(ours, model):
    in_threads(8, lambda n: ours.encode(["a", "b", f"{n}"]))
    assert sorted(text for call in model.calls for text in call) == sorted("ab01234567")


def test_everything_else_is_the_models_own(ours, model):
    assert ours.similarity(np.eye(2), np.eye(2)).tolist() == np.eye(2).tolist()
    assert (len(ours), ours[0], list(ours), ours.max_seq_length) == (1, model[0], [model[0]], 8)
    assert ours("x") == {"features": "x"}
    assert "CachedSentenceTransformer" in repr(ours)


def test_what_is_no_model_is_refused(cache):
    with pytest.raises(ConfigError, match="SentenceTransformer"):
        cached(object(), cache)
