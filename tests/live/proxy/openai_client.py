"""What a program does with openai-python, of any version: ``openai_client.py KEY URL …``.

Prints one JSON line with what it got from each of the URLs, in turn.
"""

import asyncio
import json
import sys

import openai

DEPLOYMENT = "m"


def main():
    key, *urls = sys.argv[1:]
    print(openai.__version__)
    for url in urls:
        got = use(url, key)
        got["asynchronous"] = asyncio.run(use_async(url, key))
        print(json.dumps(got))


def use(url, key):
    client = openai.OpenAI(base_url=url, api_key=key, max_retries=0)
    wrong = openai.OpenAI(base_url=url, api_key="sk-wrong", max_retries=0)

    def embed(given, **more):
        asked = {"model": "text-embedding-3-small", "input": given, **more}
        answer = client.embeddings.create(**asked)
        return [one.embedding for one in answer.data]

    got = {
        "a text": embed("hello wörld"),
        "texts": embed(["a", "b", "a"]),
        "token ids": embed([1, 2, 3]),
        "lists of token ids": embed([[1, 2, 3], [4]]),
        "all options": embed("x", model="text-embedding-3-large", dimensions=4, user="u1"),
        "floats": embed("x", encoding_format="float"),
        "base64": embed("x", encoding_format="base64"),
        "many": embed([f"t{n}" for n in range(500)]),
        "models": [model.id for model in client.models.list()],
        "chat": [
            chunk.choices[0].delta.content
            for chunk in client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "hi"}], stream=True
            )
        ],
        "an empty text": error(lambda: embed("")),
        "an unknown model": error(lambda: embed("x", model="nonexistent")),
        "a wrong key": error(lambda: wrong.embeddings.create(model="m", input="x")),
    }
    azure = openai.AzureOpenAI(
        azure_endpoint=url.removesuffix("/v1"), api_key=key, api_version="2024-10-21", max_retries=0
    )
    answer = azure.embeddings.create(model=DEPLOYMENT, input="x")
    got["azure"] = answer.data[0].embedding
    return got


def error(call):
    try:
        call()
    except openai.APIStatusError as found:
        return [type(found).__name__, found.status_code, found.body]
    return "no error"


async def use_async(url, key):
    async with openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as client:
        answers = await asyncio.gather(
            *(
                client.embeddings.create(model="text-embedding-3-small", input=f"async {n}")
                for n in range(20)
            )
        )
        return [answer.data[0].embedding for answer in answers]


if __name__ == "__main__":
    main()
