"""``nearcache serve``: a caching proxy before a provider of embeddings, for any language."""

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearcache.cli.asking import PriceFile, failing_well, prices_of
from nearcache.cli.listening import needing, say, shown_url, tls_of, warn_of_plain

if TYPE_CHECKING:
    from nearcache.dashboard.access import Access

__all__ = ["serve"]

_MEBIBYTE = 2**20


def serve(
    *,
    upstream: Annotated[
        str,
        typer.Option(
            metavar="URL",
            envvar="NEARCACHE_UPSTREAM",
            help="The provider's base URL, e.g. https://api.openai.com/v1",
        ),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8080,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="NEARCACHE_STORE",
            help="Where vectors are kept, e.g. sqlite:///vectors.db or redis://host. "
            "Default: in this process only.",
        ),
    ] = None,
    namespace: Annotated[str, typer.Option(help="Namespace in the store.")] = "proxy",
    share: Annotated[
        bool,
        typer.Option(
            "--share", help="One partition for all callers whose keys the provider accepts."
        ),
    ] = False,
    api_keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            dir_okay=False,
            help="Keys of the proxy's own: one SHA-256 in hex a line. The provider is asked with "
            "the key in NEARCACHE_UPSTREAM_KEY.",
        ),
    ] = None,
    verify_ttl: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="How long the provider's acceptance of a key is good."
        ),
    ] = 300.0,
    secret_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            dir_okay=False,
            envvar="NEARCACHE_SECRET_FILE",
            help="Secret that partitions are named with, the same for all proxies of a store; "
            "made if it is not there. Default: beside a SQLite store, else new at every start.",
        ),
    ] = None,
    ttl: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="How long a vector is kept. Default: until evicted."),
    ] = None,
    max_entries: Annotated[
        int, typer.Option(min=0, help="Vectors in this process at most.")
    ] = 100_000,
    max_bytes: Annotated[
        int, typer.Option(min=0, help="Bytes of vectors in this process at most.")
    ] = 256 * _MEBIBYTE,
    max_body: Annotated[
        int, typer.Option(min=1024, help="Bytes of a request for embeddings at most.")
    ] = 64 * _MEBIBYTE,
    max_batch: Annotated[
        int, typer.Option(min=1, help="Inputs merged into one request to the provider.")
    ] = 256,
    gather: Annotated[
        float,
        typer.Option(
            min=0, metavar="MS", help="Milliseconds to wait for the next caller of a batch."
        ),
    ] = 2.0,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="Silence of the provider until it is given up.")
    ] = 600.0,
    grace: Annotated[
        int, typer.Option(min=0, metavar="SECONDS", help="Time to end what is under way.")
    ] = 30,
    ignore_header: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A request header that does not change a vector; may be repeated."
        ),
    ] = None,
    only_embeddings: Annotated[
        bool,
        typer.Option(
            "--only-embeddings", help="Pass on nothing but embeddings and the list of models."
        ),
    ] = False,
    ui: Annotated[
        bool | None,
        typer.Option(
            help="A dashboard at /ui, without a token for whoever reaches this address. "
            "Default: with a token only."
        ),
    ] = None,
    ui_token: Annotated[
        str | None,
        typer.Option(
            envvar="NEARCACHE_UI_TOKEN",
            show_envvar=True,
            help="What whoever looks at the dashboard must show; best given in the environment.",
        ),
    ] = None,
    ui_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A further name that the dashboard is reached by; may be repeated."
        ),
    ] = None,
    prices: PriceFile = None,
    tls_certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", dir_okay=False, help="Certificate, to speak TLS.")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(metavar="FILE", dir_okay=False, help="Its private key.")
    ] = None,
) -> None:
    """Run a caching proxy before a provider of embeddings; clients change their base URL.

    The first line on standard output is the URL that it listens on.
    """
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    with failing_well("serve"):
        with needing("proxy"):  # here, not above: --help need not wait for them
            from nearcache.dashboard.listening import listen
            from nearcache.proxy.run import run
            from nearcache.proxy.settings import Settings
        tls = tls_of(tls_certificate, tls_key)
        settings = Settings(
            upstream=upstream,
            store=store or None,
            namespace=namespace,
            share=share,
            api_keys=api_keys,
            upstream_key=os.environ.get("NEARCACHE_UPSTREAM_KEY") or None,
            verify_ttl=verify_ttl,
            secret_file=secret_file,
            ttl=ttl,
            max_entries=max_entries,
            max_bytes=max_bytes,
            max_body=max_body,
            max_batch=max_batch,
            gather=gather / 1000,
            timeout=timeout,
            ignore_headers=ignore_header or [],
            only_embeddings=only_embeddings,
            ui=_access(ui, host, ui_token, ui_host, secure=tls is not None),
            prices=prices_of(prices),
        )
        with listen(host, port) as door:
            warn_of_plain(host, tls, "callers' keys", "the proxy")
            if ui is None and settings.ui is None:
                logging.getLogger("nearcache").info(
                    "no dashboard at /ui: set NEARCACHE_UI_TOKEN, or give --ui to show it to "
                    "everybody"
                )
            url = shown_url(door, tls)
            run(settings, door, grace=grace, tls=tls, started=lambda: say(url))


def _access(
    wanted: bool | None, host: str, token: str | None, names: list[str] | None, *, secure: bool
) -> "Access | None":
    """Return who may look at the dashboard; None where nobody may.

    Not whoever is on this machine: a proxy is there to have something in front of it, which is.

    Raises: ConfigError.
    """
    from nearcache.dashboard.access import Access

    if wanted is False or (wanted is None and not token):
        return None
    return Access(host=host, token=token or None, names=names or [], secure=secure)
