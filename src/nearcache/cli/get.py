"""``nearcache get``: why a key would be a hit or a miss."""

import json
from typing import Annotated, Any

import typer

from nearcache.cli.asking import AsJson, StoreUrl, failing_well, opened, print_json, unescaped

__all__ = ["get"]


def get(
    key: Annotated[
        str | None,
        typer.Argument(
            help='The key, as keys shows it: several parts as a JSON list: \'["episodic", "7"]\''
        ),
    ] = None,
    *,
    store: StoreUrl = None,
    namespace: Annotated[
        str | None,
        typer.Option("--namespace", help='The namespace. Default: "emb" where --text is given.'),
    ] = None,
    text: Annotated[str | None, typer.Option(help="Explain the vector of this text.")] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="The model that the text is for.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(help="A tag to recognise by name; may be repeated.")
    ] = None,
    view: Annotated[
        list[str] | None, typer.Option(help="The view within the namespace; may be repeated.")
    ] = None,
    value: Annotated[
        bool, typer.Option("--value", help="Also print the value, if it is text or JSON.")
    ] = False,
    literal: Annotated[
        bool, typer.Option("--literal", help="The key is this very string, no JSON.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Explain a key: what the store has of it, how long it lives, and why it would be a miss.

    Nothing is changed, counted or prolonged. Exit status 0 for a hit, 1 for anything else.
    """
    from nearcache.errors import StoreUnavailable

    with failing_well("get"):
        found = _explained(key, store, namespace, text, model, tag, view, literal=literal)
        if found.outcome == "unknown":
            raise StoreUnavailable(found.why)
        shown, why_not = _value(found) if value else (None, None)
        if as_json:
            document = found.to_dict()
            if value:
                document |= {"value": shown, "value_error": why_not}
            print_json(document)
        else:
            typer.echo(f"{found.outcome}: {unescaped(found.key)} in {unescaped(found.namespace)}")
            for sentence in found.sentences:
                typer.echo(f"  {unescaped(sentence)}")
            if value and why_not is None:
                typer.echo(unescaped(json.dumps(shown, indent=2, ensure_ascii=False)))
            elif value:
                typer.echo(why_not, err=True)
        if found.outcome not in ("hit", "stale"):
            raise typer.Exit(1)


def _explained(
    key: str | None,
    store: str | None,
    namespace: str | None,
    text: str | None,
    model: str | None,
    tag: list[str] | None,
    view: list[str] | None,
    *,
    literal: bool,
) -> Any:
    from nearcache.caches.stored import key_of
    from nearcache.errors import ConfigError
    from nearcache.metrics.explain import explain

    if (key is None) == (text is None):
        msg = "give a KEY, or --text with --model"
        raise ConfigError(msg)
    if text is not None and model is None:
        msg = "a vector belongs to a model: give --model"
        raise ConfigError(msg)
    if key is not None and model is not None:
        msg = "a key has no model: give --text with --model"
        raise ConfigError(msg)
    if namespace is None and key is not None:
        msg = "give the key's --namespace"
        raise ConfigError(msg)
    with opened(store) as place:
        views, tags = tuple(view or ()), tuple(tag or ())
        if text is not None:
            return explain(place, namespace or "emb", text=text, model=model, view=views)
        assert key is not None, "one of the two was given"
        wanted = key if literal else key_of(key)
        return explain(place, namespace or "", wanted, view=views, tags=tags)


def _value(found: Any) -> tuple[Any, str | None]:
    """Return the value, or why it is not shown."""
    if found.sealed:
        return None, "The value is sealed by a codec of the user's: only the program can open it."
    try:
        value = found.value()
        json.dumps(value)
    except (LookupError, ValueError, TypeError, RecursionError) as error:
        return None, f"The value is not shown: {error}"
    return value, None
