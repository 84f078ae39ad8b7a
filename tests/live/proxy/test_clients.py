"""Programs that know nothing of the proxy but its ``base_url``: OpenAI's own clients, and curl."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from provider import MODEL

HERE = Path(__file__).parent
FETCHED = Path(__file__).parents[3] / ".servers"
# in folders, for the Python of .venv that fetched them
PYTHONS = {"1": FETCHED / "openai-1", "2": FETCHED / "openai-2", "installed": None}
NODE = FETCHED / "openai-node"


def run(command, **environment):
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def same_for_all(lines, provider, asked_once):
    """The provider itself, a cold proxy and a warm one: everything a program sees is the same."""
    direct, cold, warm = map(json.loads, lines)
    for name, got in direct.items():
        assert cold[name] == got, name
        assert warm[name] == got, name
    for text in asked_once:  # once by the client itself, once by the proxy
        assert provider.times[text] == 2, text


@pytest.mark.parametrize("version", PYTHONS)
def test_openai_python(proxy, provider, key, version):
    folder, python, path = PYTHONS[version], sys.executable, {}
    if folder is not None:
        if not folder.is_dir():
            pytest.fail(f"no openai-python at {folder}; `make servers` fetches it")
        python, path = FETCHED.parent / ".venv/bin/python", {"PYTHONPATH": str(folder)}
    lines = run(
        [python, HERE / "openai_client.py", key, provider.url, proxy.url, proxy.url], **path
    )
    assert lines[0].startswith(version if folder is not None else "")
    same_for_all(lines[1:], provider, ["hello wörld", "t7", "async 3", "b", (4,)])


def test_openai_node(proxy, provider, key):
    if shutil.which("node") is None or not (NODE / "node_modules").is_dir():
        pytest.skip("needs node and npm; with them `make servers` fetches openai-node")
    lines = run(
        ["node", HERE / "openai_client.mjs", key, provider.url, proxy.url, proxy.url],
        OPENAI_NODE=str(NODE),
    )
    same_for_all(lines, provider, ["hello wörld", "t7", "b", (4,)])


def test_curl(proxy, provider, key):
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    answers = [
        json.loads(
            "\n".join(
                run(
                    ["curl", "--silent", "--show-error", "--fail", f"{url}/embeddings",
                     "-H", f"Authorization: Bearer {key}", "-H", "Content-Type: application/json",
                     "-d", json.dumps({"model": MODEL, "input": "from a shell"})]
                )
            ),
            parse_float=str,
        )["data"]
        for url in (provider.url, proxy.url, proxy.url)
    ]  # fmt: skip
    assert answers[0] == answers[1] == answers[2]


def test_langchain(proxy, provider, key):
    from langchain_openai import OpenAIEmbeddings

    def use(url):
        embed = OpenAIEmbeddings(
            model=MODEL, base_url=url, api_key=key, check_embedding_ctx_length=False
        )
        return embed.embed_documents(["one", "two", "one"]), embed.embed_query("three")

    direct, cold, warm = use(provider.url), use(proxy.url), use(proxy.url)
    assert direct == cold == warm
    assert provider.times == {"one": 3, "two": 2, "three": 2}


def test_llamaindex(proxy, provider, key):
    from llama_index.embeddings.openai import OpenAIEmbedding

    def use(url):
        embed = OpenAIEmbedding(model=MODEL, api_base=url, api_key=key)
        texts = embed.get_text_embedding_batch(["one", "two"])
        return texts, embed.get_query_embedding("three")

    direct, cold, warm = use(provider.url), use(proxy.url), use(proxy.url)
    assert direct == cold == warm
    assert provider.times == {"one": 2, "two": 2, "three": 2}
