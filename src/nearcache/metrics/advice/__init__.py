"""What size and policy a cache should have: predicted, from what was asked of it."""

from nearcache.metrics.advice.advise import Advice, CacheAdvice, Choice, of_keys, of_report
from nearcache.metrics.advice.keys import Keys
from nearcache.metrics.advice.traces import read_keys

__all__ = ["Advice", "CacheAdvice", "Choice", "Keys", "of_keys", "of_report", "read_keys"]
