"""``nearcache serve`` beside LiteLLM's proxy: warm answers, and a crowd that asks for the same."""

from bench.proxy.cold import judge_cold
from bench.proxy.servers import litellm_version
from bench.proxy.warm import judge_warm
from bench.report import Report

__all__ = ["run"]

_PACKAGES = ("nearcache", "numpy", "uvicorn", "httptools", "uvloop", "starlette", "httpx")


def run(*, quick: bool) -> Report:
    """Measure warm answers of both proxies in turns, and cold ones of ours."""
    report = Report("proxy", "The caching proxy", quick)
    report.versions = _versions()
    judge_warm(report, quick=quick)
    judge_cold(report, quick=quick)
    report.notes.append(
        "The provider is the suite's model server, a process of its own. The proxy that is timed "
        "has one core to itself (it and LiteLLM's take turns there, one idle while the other is "
        "timed); provider and client have the others. The client is a socket that sends bytes made "
        "beforehand and does not parse the answers; before the clock counts, each proxy's answer "
        "is compared with the provider's. Texts have 500 characters. LiteLLM's proxy: one worker, "
        "its cache in memory (whose bound of 200 entries is raised to 100,000), no keys of its "
        "own, no log of requests. Ours: as installed, no store, keys checked."
    )
    return report


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"litellm[proxy]": litellm_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not there"
    return found
