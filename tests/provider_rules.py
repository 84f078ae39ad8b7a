"""What OpenAI's embeddings API accepts, and the words in which it refuses the rest.

The bodies are those of the real service: of recorded traffic where there is some, of its
documentation else.
"""

import json
from typing import Any

from provider_wire import Answer

__all__ = ["Refused", "check", "inputs_of", "refusal", "tokens"]

MOST_INPUTS = 2048
MOST_TOKENS_OF_ONE = 8192
MOST_TOKENS = 300_000
MOST_DIMENSIONS = 4096
_FIELDS = {"model", "input", "encoding_format", "dimensions", "user"}
_REFERENCE = "Please check the API reference: https://platform.openai.com/docs/api-reference."


class Refused(Exception):
    """The request gets this answer instead."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.body.decode())
        self.answer = answer


def refusal(
    status: int,
    message: str,
    code: str | None = None,
    *,
    kind: str = "invalid_request_error",
    param: str | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    """Return an error in the form that every client knows."""
    error = {"message": message, "type": kind, "param": param, "code": code}
    body = json.dumps({"error": error}, indent=4, ensure_ascii=False).encode()
    return Answer(status, body, {"content-type": "application/json", **(headers or {})})


def tokens(one: Any) -> int:
    """How many tokens an input counts for."""
    return len(one) if isinstance(one, list) else max(1, len(one) // 4)


def inputs_of(body: dict[str, Any]) -> list[Any]:
    """The inputs of a valid request, each a text or a list of token ids."""
    given = body["input"]
    if isinstance(given, str) or (given and isinstance(given[0], int)):
        return [given]
    return list(given)


def check(data: bytes, *, lenient: bool) -> dict[str, Any]:
    """Return the body of a request, or raise Refused; ``lenient`` takes fields it does not know."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise _refused(
            "We could not parse the JSON body of your request. (HINT: This likely means you aren't "
            "using your HTTP library correctly. The OpenAI API expects a JSON payload, but what "
            "was sent was not valid JSON.)"
        ) from None
    if not isinstance(body, dict):
        raise _refused(f"'$' is invalid. {_REFERENCE}")
    unknown = sorted(set(body) - _FIELDS)
    if unknown and not lenient:
        raise _refused(f"Unrecognized request argument supplied: {unknown[0]}")
    if not isinstance(body.get("model"), str):
        raise _refused("you must provide a model parameter")
    _check_input(body.get("input"))
    if body.get("encoding_format", "float") not in ("float", "base64"):
        raise _refused(f"'$.encoding_format' is invalid. {_REFERENCE}")
    size = body.get("dimensions", 1)
    if type(size) is not int or not 1 <= size <= MOST_DIMENSIONS:
        raise _refused(f"'$.dimensions' is invalid. {_REFERENCE}")
    if not isinstance(body.get("user", ""), str):
        raise _refused(f"'$.user' is invalid. {_REFERENCE}")
    return body


def _check_input(given: Any) -> None:
    bad = f"'$.input' is invalid. {_REFERENCE}"
    if isinstance(given, str):
        inputs = [given]
    elif not isinstance(given, list) or not given:
        raise _refused(bad)
    elif all(type(one) is int for one in given):
        inputs = [given]
    else:
        inputs = given
    if len(given) > MOST_INPUTS and isinstance(given, list):
        raise Refused(
            refusal(
                400,
                f"Invalid 'input': array too long. Expected an array with maximum length "
                f"{MOST_INPUTS}, but got an array with length {len(given)} instead.",
                "array_above_max_length",
                param="input",
            )
        )
    kinds = {type(one) for one in inputs}
    if kinds not in ({str}, {list}) or not all(inputs):
        raise _refused(bad)
    for one in inputs:
        if isinstance(one, list) and not all(type(i) is int and i >= 0 for i in one):
            raise _refused(bad)
        if tokens(one) > MOST_TOKENS_OF_ONE:
            raise _refused(
                f"This model's maximum context length is {MOST_TOKENS_OF_ONE} tokens, however you "
                f"requested {tokens(one)} tokens ({tokens(one)} in your prompt; 0 for the "
                "completion). Please reduce your prompt; or completion length."
            )
    if (total := sum(map(tokens, inputs))) > MOST_TOKENS:
        raise Refused(
            refusal(
                400,
                f"Requested {total} tokens, max {MOST_TOKENS} tokens per request",
                "max_tokens_per_request",
                kind="max_tokens_per_request",
            )
        )


def _refused(message: str) -> Refused:
    return Refused(refusal(400, message))
