"""A caching proxy before a provider of embeddings, for programs in any language.

It speaks OpenAI's protocol: whoever changes ``base_url`` is cached. ``nearcache serve`` runs it.
"""

try:
    from nearcache.proxy.app import make_app
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("starlette", "httpx", "msgspec"):
        raise
    msg = f"the proxy needs {error.name}, which is not installed: pip install 'nearcache[proxy]'"
    raise ImportError(msg) from error
from nearcache.proxy.settings import Settings

__all__ = ["Settings", "make_app"]
