"""A program that knows nothing of nearcache: it calls OpenAI's client, and ``base_url`` is all.

Start the proxy, then run this twice. The second time nothing is paid for, whoever asked first.

    nearcache serve --upstream https://api.openai.com/v1 --store sqlite:///vectors.db
    OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=sk-… python examples/proxy.py

``examples/proxy.mjs`` is the same program for Node.
"""

import os
import time

from openai import OpenAI

TEXTS = [
    "Where is my order?",
    "I want to return a lamp.",
    "Where is my order?",
    "Can I change my address?",
]


def main() -> None:
    """Embed a few texts, and say what the proxy says of them."""
    client = OpenAI()  # reads OPENAI_BASE_URL and OPENAI_API_KEY
    model = os.environ.get("MODEL", "text-embedding-3-small")
    began = time.perf_counter()
    answer = client.embeddings.with_raw_response.create(model=model, input=TEXTS)
    took = time.perf_counter() - began
    found = answer.parse()
    print(f"{len(found.data)} vectors of {len(found.data[0].embedding)} dimensions")
    print(f"{took * 1000:.0f} ms, {found.usage.prompt_tokens} tokens paid for")
    print(answer.headers.get("x-nearcache", "no proxy in between"))


if __name__ == "__main__":
    main()
