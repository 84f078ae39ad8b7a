"""``nearcache serve``: a caching proxy before a provider of embeddings, for any language."""

import ipaddress
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["serve"]

_MEBIBYTE = 2**20
_WRONG_USAGE = 2


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
    # Here, not above: --help need not wait for them.
    import os

    from nearcache.errors import CacheError, ConfigError

    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        try:
            from nearcache.proxy.run import listen, run
            from nearcache.proxy.settings import Settings
        except ImportError as error:
            raise ConfigError(_missing(error)) from error
        _check_tls(tls_certificate, tls_key)
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
        )
        with listen(host, port) as door:
            scheme = "http" if tls_certificate is None else "https"
            _warn_of_plain(host, scheme)

            def started() -> None:
                typer.echo(_shown(scheme, door.getsockname()))
                sys.stdout.flush()

            run(
                settings,
                door,
                grace=grace,
                certificate=_text(tls_certificate),
                private_key=_text(tls_key),
                started=started,
            )
    except ConfigError as error:
        typer.echo(f"nearcache serve: {error}", err=True)
        raise typer.Exit(_WRONG_USAGE) from None
    except (CacheError, OSError) as error:
        typer.echo(f"nearcache serve: {error}", err=True)
        raise typer.Exit(1) from None


def _missing(error: ImportError) -> str:
    name = error.name or "a package"
    return f"the proxy needs {name}, which is not installed: pip install 'nearcache[proxy]'"


def _check_tls(certificate: Path | None, key: Path | None) -> None:
    from nearcache.errors import ConfigError

    if (certificate is None) != (key is None):
        raise ConfigError("TLS needs both --tls-certificate and --tls-key")
    for path in (certificate, key):
        if path is not None and not path.is_file():
            raise ConfigError(f"there is no file {path}")


def _warn_of_plain(host: str, scheme: str) -> None:
    """Warn where callers' keys would travel in the clear."""
    if scheme == "http" and not _is_loopback(host):
        logging.getLogger("nearcache").warning(
            "callers' keys reach %s unencrypted: give --tls-certificate and --tls-key, or put the "
            "proxy behind something that speaks TLS",
            host,
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _shown(scheme: str, address: tuple[str, int]) -> str:
    host, port = address[0], address[1]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
