"""One page that shows what all workers of a store do: ``nearcache dashboard`` serves it."""

try:
    from nearcache.dashboard.app import make_app
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "starlette":
        raise
    msg = f"the dashboard needs {error.name}, which is not installed: "
    msg += "pip install 'nearcache[dashboard]'"
    raise ImportError(msg) from error
from nearcache.dashboard.access import Access
from nearcache.dashboard.source import ProcessSource, Source, StoreSource

__all__ = ["Access", "ProcessSource", "Source", "StoreSource", "make_app"]
