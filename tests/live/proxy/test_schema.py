"""Whatever OpenAI's published schema allows or forbids, the proxy answers as the provider does."""

import json
import os
from pathlib import Path

import pytest
import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from proxy_process import ask, embeddings

DATA = Path(os.environ.get("NEARCACHE_DATA") or Path(__file__).parents[4] / "shared" / "data")
SCHEMA = DATA / "openai_embeddings_subset.openapi.json"
_SMALL = {
    "openapi": "3.1.0",
    "info": {"title": "Embeddings", "version": "1"},
    "paths": {
        "/embeddings": {
            "post": {
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "additionalProperties": False,
                                "required": ["model", "input"],
                                "properties": {
                                    "model": {"type": "string"},
                                    "input": {
                                        "oneOf": [
                                            {"type": "string"},
                                            {"type": "array", "items": {"type": "string"}},
                                            {"type": "array", "items": {"type": "integer"}},
                                        ]
                                    },
                                    "encoding_format": {"enum": ["float", "base64"]},
                                    "dimensions": {"type": "integer", "minimum": 1},
                                },
                            }
                        }
                    },
                },
                "responses": {"200": {"description": "OK"}},
            }
        }
    },
}


def operation():
    schema = (
        schemathesis.openapi.from_path(SCHEMA)
        if SCHEMA.exists()
        else schemathesis.openapi.from_dict(_SMALL)
    )
    return schema["/embeddings"]["POST"]


def sent(case):
    """The bytes that schemathesis would send."""
    if isinstance(case.body, bytes):
        return case.body
    return json.dumps(case.body).encode() if isinstance(case.body, (dict, list)) else b""


CASES = st.one_of(*(operation().as_strategy(generation_mode=mode) for mode in GenerationMode)).map(
    sent
)


@pytest.fixture
def lenient(provider):
    """A provider that knows every model."""
    known, provider.models = provider.models, None
    yield provider
    provider.models = known


@settings(max_examples=40)
@given(body=CASES)
def test_every_body_is_answered_as_the_provider_answers_it(proxy, lenient, body):
    direct = ask(lenient, body, "sk-good")
    for _ in range(2):
        answer = ask(proxy, body, "sk-good")
        assert answer.status_code == direct.status_code
        if direct.status_code == 200:
            assert embeddings(answer) == embeddings(direct)
            assert answer.json()["model"] == direct.json()["model"]
        else:
            assert answer.content == direct.content
