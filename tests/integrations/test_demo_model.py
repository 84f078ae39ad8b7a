"""Three frameworks on a real model, small as it is: they find what they should, and pay once.

Each builds its own index of the same passages, before a cache that has never seen them and before
one that has, and asks the same questions.
"""

import os
from collections import Counter
from uuid import uuid4

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # before it is imported

import chromadb
import pytest
from chromadb.api.types import EmbeddingFunction
from chromadb.config import Settings
from haystack import Document, Pipeline, component
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.components.writers import DocumentWriter
from haystack.document_stores.in_memory import InMemoryDocumentStore
from llama_index.core import VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field
from llama_index.core.schema import TextNode

from nearcache import EmbeddingCache
from nearcache.cli.model import MODEL, load
from nearcache.integrations.chroma import CachedEmbeddingFunction
from nearcache.integrations.haystack import CachedDocumentEmbedder, CachedTextEmbedder
from nearcache.integrations.llamaindex import CachedEmbedding

PASSAGES = [
    "A cat purrs when it is content.",
    "The stock exchange closed higher on Friday.",
    "Bread dough needs time to rise.",
    "The river flooded the lower town last spring.",
    "Violins have four strings and are played with a bow.",
    "Penguins are birds that cannot fly.",
]
QUESTIONS = {
    "Which animal purrs?": 0,
    "What happened to share prices?": 1,
    "Which instrument is played with a bow?": 4,
    "Welcher Vogel kann nicht fliegen?": 5,
}


@pytest.fixture(scope="module")
def encode():
    return load()


class Counted:
    """The real model, counting what reaches it."""

    def __init__(self, encode):
        self.encode = encode
        self.sent: Counter = Counter()

    def __call__(self, texts):
        self.sent.update(texts)
        return self.encode(list(texts)).tolist()


class LlamaModel(BaseEmbedding):
    encode: object = Field(exclude=True)

    def _get_query_embedding(self, query):
        return self.encode([query])[0]

    async def _aget_query_embedding(self, query):
        return self._get_query_embedding(query)

    def _get_text_embedding(self, text):
        return self.encode([text])[0]


def with_llamaindex(encode, cache):
    embed_model = CachedEmbedding(LlamaModel(model_name=MODEL, encode=encode), cache)
    nodes = [TextNode(text=text, id_=str(n)) for n, text in enumerate(PASSAGES)]
    retriever = VectorStoreIndex(nodes, embed_model=embed_model).as_retriever()
    return lambda question: [int(found.node_id) for found in retriever.retrieve(question)]


@component
class HaystackTexts:
    def __init__(self, encode, model=MODEL):
        self.encode, self.model = encode, model

    def to_dict(self):
        return {"init_parameters": {"model": self.model}}

    @component.output_types(embedding=list[float])
    def run(self, text: str):
        return {"embedding": self.encode([text])[0]}


@component
class HaystackDocuments:
    def __init__(self, encode, model=MODEL):
        self.encode, self.model = encode, model

    def to_dict(self):
        return {"init_parameters": {"model": self.model}}

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]):
        rows = self.encode([document.content for document in documents])
        pairs = zip(documents, rows, strict=True)
        return {"documents": [Document(content=one.content, embedding=row) for one, row in pairs]}


def with_haystack(encode, cache):
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    indexing, querying = Pipeline(), Pipeline()
    indexing.add_component("embedder", CachedDocumentEmbedder(HaystackDocuments(encode), cache))
    indexing.add_component("writer", DocumentWriter(store))
    indexing.connect("embedder.documents", "writer.documents")
    indexing.run({"embedder": {"documents": [Document(content=text) for text in PASSAGES]}})
    querying.add_component("embedder", CachedTextEmbedder(HaystackTexts(encode), cache))
    querying.add_component("retriever", InMemoryEmbeddingRetriever(store))
    querying.connect("embedder.embedding", "retriever.query_embedding")

    def ask(question):
        found = querying.run({"embedder": {"text": question}})["retriever"]["documents"]
        return [PASSAGES.index(one.content) for one in found]

    return ask


class ChromaFunction(EmbeddingFunction):
    def __init__(self, encode):
        self.encode = encode

    def __call__(self, input):  # noqa: A002  Chroma looks at the name
        return self.encode(input)


def with_chroma(encode, cache):
    client = chromadb.EphemeralClient(Settings(anonymized_telemetry=False))
    function = CachedEmbeddingFunction(ChromaFunction(encode), cache, model=MODEL)
    collection = client.create_collection(  # Chroma keeps them in the process: a name of its own
        f"passages-{uuid4().hex}", embedding_function=function, metadata={"hnsw:space": "cosine"}
    )
    collection.upsert(ids=[str(n) for n in range(len(PASSAGES))], documents=PASSAGES)

    def ask(question):
        return [int(found) for found in collection.query(query_texts=[question])["ids"][0]]

    return ask


@pytest.mark.parametrize("framework", [with_llamaindex, with_haystack, with_chroma])
def test_they_find_what_they_should_and_pay_once(framework, encode, tmp_path):
    model, answers = Counted(encode), []
    for _ in range(2):
        with EmbeddingCache(f"sqlite:///{tmp_path / 'vectors.db'}") as cache:
            ask = framework(model, cache)
            answers.append({question: ask(question) for question in QUESTIONS})
    assert {question: found[0] for question, found in answers[0].items()} == QUESTIONS
    assert answers[1] == answers[0]
    assert model.sent == dict.fromkeys([*PASSAGES, *QUESTIONS], 1)
