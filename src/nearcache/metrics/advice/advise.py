"""From what was asked for to advice: sizes, policies, ttl, waste; figures first, then sentences."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from nearcache.metrics.advice.keys import Keys
from nearcache.metrics.advice.simulate import hit_ratio, hit_ratio_with_ttl
from nearcache.metrics.report import CacheReport, Curve, Report
from nearcache.near.policies.base import NAMES

__all__ = ["Advice", "CacheAdvice", "Choice", "moved", "of_keys", "of_report"]

_SIZES = (0.25, 0.5, 1.0, 2.0, 4.0)  # times the present one
_CURVE = (0.0625, 0.125, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 8.0, 16.0)
_AS_GOOD = 0.005  # half a point of the hit ratio is nothing
_WORTH = 0.01  # a point is worth a sentence
_FEW = 1000  # requests of which no more than a guess can be made
_MUCH = 1_000_000  # bytes that are worth a sentence
_DAY = 86_400.0
_LEAST_SPAN = 300.0  # seconds
_ALIKE = 0.02  # what hits so nearly what was simulated, or LRU would, is told of by that


@dataclass(frozen=True, slots=True)
class Choice:
    """Another size or policy, and what it would hit.

    ``spared_per_day``: model calls a day that it spares more than the present one (less, if it is
    negative); None where no time is known.
    """

    entries: int
    policy: str
    hit_ratio: float
    spared_per_day: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheAdvice:
    """What is to be said of one cache. Ratios are 0 to 1, of the near tier.

    method: "played" (each choice on a near tier of nearcache's), "simulated" (each on a miniature,
    by a running cache itself, from the sample of its requests that it keeps), "estimated" (from a
    sample that tells of LRU), or "guessed" (of a running cache, too, but it does not hit what its
    miniature, or LRU, hits: nothing is advised).
    """

    name: str
    method: str
    requests: int
    distinct: int | None
    entries: int
    policy: str
    hit_ratio: float
    per_day: float | None
    sizes: tuple[Choice, ...] = ()
    policies: tuple[Choice, ...] = ()
    ttl: float | None = None
    ttl_costs: float | None = None
    wasted_bytes: int = 0
    curve: tuple[tuple[int, float], ...] = ()
    sentences: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can carry."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Advice:
    """Advice on some caches, and what it was drawn from."""

    source: str
    caches: tuple[CacheAdvice, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the document of ``nearcache advise --json``."""
        return {
            "source": self.source,
            "caches": [cache.to_dict() for cache in self.caches],
            "notes": list(self.notes),
        }


# -- from keys -----------------------------------------------------------------------------------


def of_keys(
    keys: Keys,
    *,
    entries: int | None = None,
    policy: str | None = None,
    ttl: float | None = None,
    policies: Sequence[str] = NAMES,
    curve: bool = True,
) -> Advice:
    """Play what was asked for on caches of other sizes and policies.

    entries, policy, ttl: the present ones, where the keys do not say; a tenth of the distinct keys,
    and "adaptive".

    Cost: about half a second for each choice that is played.
    """
    notes = []
    distinct = keys.distinct
    if entries is None and keys.size is None:
        notes.append("The present size is not known: a tenth of the distinct keys was taken.")
    size = entries or keys.size or max(1, distinct // 10)
    present = policy or keys.policy or "adaptive"
    if present not in NAMES:
        notes.append(f"The policy {present} is not nearcache's own: adaptive was played instead.")
        present = "adaptive"
    life = keys.ttl if ttl is None else ttl
    if keys.requests < _FEW:
        notes.append(f"{keys.requests:,} requests are few: take this for no more than a guess.")
    base = hit_ratio(keys, present, size)
    per_day = keys.per_day

    def choice(entries: int, policy: str) -> Choice:
        same = (entries, policy) == (size, present)
        ratio = base if same else hit_ratio(keys, policy, entries)
        spared = None if per_day is None else per_day * (ratio - base)
        return Choice(entries, policy, ratio, spared)

    others = tuple(choice(each, present) for each in _sizes(_SIZES, size, distinct))
    points = {each.entries: each.hit_ratio for each in others}
    for each in _sizes(_CURVE, size, distinct) if curve else ():
        points.setdefault(each, 0.0)
        if not points[each]:
            points[each] = hit_ratio(keys, present, each)
    costs = None
    if life is not None:
        with_ttl = hit_ratio_with_ttl(keys, present, size, life)
        costs = None if with_ttl is None else max(0.0, base - with_ttl)
    made = CacheAdvice(
        name=keys.name,
        method="played",
        requests=keys.requests,
        distinct=distinct,
        entries=size,
        policy=present,
        hit_ratio=base,
        per_day=per_day,
        sizes=others,
        policies=tuple(choice(size, each) for each in policies),
        ttl=life,
        ttl_costs=costs,
        curve=tuple(sorted(points.items())),
    )
    return Advice(keys.name, (_with_sentences(made),), tuple(notes))


def _sizes(times: Sequence[float], size: int, distinct: int) -> list[int]:
    """Return sizes around the present one; none that is larger than all keys but one."""
    wanted = sorted({max(1, round(size * each)) for each in times})
    return [each for each in wanted if each <= max(distinct, size)]


# -- from a running store ------------------------------------------------------------------------


def of_report(report: Report) -> Advice:
    """Say, from what workers report, what other sizes and policies would do."""
    notes = []
    if not report.workers:
        notes.append("No worker is reporting: nothing is known.")
    caches = tuple(
        _with_sentences(found) for cache in report.caches if (found := _of_cache(cache)) is not None
    )
    known = {cache.name for cache in caches}
    notes += [
        f"{cache.namespace} ({cache.kind}): too little was asked to tell anything."
        for cache in report.caches
        if f"{cache.namespace} ({cache.kind})" not in known
    ]
    own = {cache.curve.really is not None for cache in report.caches if cache.curve is not None}
    if caches and True in own:
        notes.append(
            "Simulated by the workers, from a sample of what was asked for of late; a key log "
            "(cache.admin.record) goes back as far as you wish, and tells what the ttl costs."
        )
    if caches and False in own:
        notes.append(
            "Estimated for LRU from a sample; record a key log (cache.admin.record) to have other "
            "policies, and ttl, compared."
        )
    return Advice(report.address, caches, tuple(notes))


def _of_cache(cache: CacheReport) -> CacheAdvice | None:
    stats, curve = cache.stats, cache.curve
    asked = stats.hits + stats.misses + stats.coalesced
    if curve is None or not curve.points or asked < 1 or not curve.size:
        return None
    size, base = curve.size, stats.near_hits / asked
    minutes = [minute for minute in cache.minutes if minute.asked]
    span = (cache.minutes[-1].minute - cache.minutes[0].minute + 1) * 60.0 if minutes else 0.0
    known = span >= _LEAST_SPAN  # a day cannot be told from a minute
    per_day = sum(minute.asked for minute in minutes) * _DAY / span if known else None
    # of those that near does not answer, so many reach the model
    beyond = asked - stats.near_hits
    to_model = stats.loads / beyond if beyond else 0.0

    policy = cache.policy or "adaptive"
    at_size, own = curve.hit_ratio(size), curve.really is not None
    # of a simulation the very requests that were simulated are known, and what they really hit
    is_told = abs((base if curve.really is None else curve.really) - at_size) <= _ALIKE
    is_told = is_told or (policy == "lru" and not own)
    hits = partial(moved, base, at_size) if is_told or own else _beside_lru(curve, base)

    def choice(entries: int, policy: str, ratio: float) -> Choice:
        spared = per_day * (ratio - base) * to_model if per_day is not None and is_told else None
        return Choice(entries, policy, ratio, spared)

    sizes = [max(1, round(size * each)) for each in _SIZES]
    others = {**curve.others, policy: at_size} if is_told and curve.others else {}
    enough = next((entries for entries, ratio in curve.points if ratio >= at_size - _AS_GOOD), size)
    used = stats.entries_near / max(1, cache.workers)
    idle = max(0.0, 1 - enough / used) if used and enough < used and is_told else 0.0
    return CacheAdvice(
        name=f"{cache.namespace} ({cache.kind})",
        method="guessed" if not is_told else "simulated" if own else "estimated",
        requests=asked,
        distinct=None,
        entries=size,
        policy=policy,
        hit_ratio=base,
        per_day=per_day,
        sizes=tuple(choice(each, policy, hits(curve.hit_ratio(each), each)) for each in sizes),
        policies=tuple(choice(size, name, hits(ratio, size)) for name, ratio in others.items()),
        ttl=cache.ttl,
        ttl_costs=min(1.0, stats.expirations / asked) if cache.ttl is not None else None,
        wasted_bytes=round(idle * stats.bytes_near),
        curve=tuple((entries, hits(there, entries)) for entries, there in curve.points if entries),
    )


def moved(base: float, at_size: float, there: float, _entries: int = 0) -> float:
    """Return what is hit elsewhere on a curve, where ``base`` is hit and not quite ``at_size``.

    What a smaller cache loses is a share of the hits, what a larger one gains one of the misses.
    """
    if there <= at_size:
        return base * there / at_size if at_size else base
    return 1.0 - (1.0 - base) * (1.0 - there) / (1.0 - at_size)


def _beside_lru(curve: Curve, base: float) -> Callable[[float, int], float]:
    """Guess along LRU's curve, where LRU would not hit what is hit."""
    size, at_size = curve.size, curve.hit_ratio(curve.size)
    at_most = curve.points[-1][1]  # what was asked for once is missed by any cache

    def hits(there: float, entries: int) -> float:
        if entries <= size:
            # LRU keeps nothing of a loop, and tells nothing of smaller ones
            tells = at_size > 0 and at_size >= base / 2
            return base * (min(1.0, there / at_size) if tells else entries / size)
        if there <= at_size:
            return base
        if at_most <= base:
            # of the misses: repeats within a batch are hits that the curve knows nothing of
            return moved(base, at_size, there)
        return base + (at_most - base) * min(1.0, (there - at_size) / (at_most - at_size))

    return hits


# -- in words ------------------------------------------------------------------------------------


def _with_sentences(advice: CacheAdvice) -> CacheAdvice:
    fields = {name: getattr(advice, name) for name in advice.__slots__}
    return CacheAdvice(**{**fields, "sentences": tuple(_sentences(advice))})


def _sentences(advice: CacheAdvice) -> Iterator[str]:
    now = advice.hit_ratio
    yield f"{advice.entries:,} entries, {advice.policy}: near answers {now:.1%} of what is asked."
    if advice.method == "guessed":
        yield (
            "The sample of what was asked for tells of another share: entries leave before their "
            "time, or it tells of LRU, which is not the policy. What other sizes would answer is a "
            "guess. Record a key log (cache.admin.record) to know."
        )
    else:
        yield from _of_sizes(advice, now)
    best = max(advice.policies, key=lambda each: each.hit_ratio, default=None)
    if best is not None:
        if best.hit_ratio - now >= _WORTH:
            yield f"Policy {best.policy} would give {best.hit_ratio:.1%}{_spared(best)}."
        else:
            yield f"No other policy is better by a point than {advice.policy}."
    if advice.ttl is not None and advice.ttl_costs is not None:
        if advice.ttl_costs < _AS_GOOD / 5:
            yield f"The ttl of {advice.ttl:,.0f} s never matters."
        else:
            most = "at most " if advice.method != "played" else ""
            cost = f"{most}{100 * advice.ttl_costs:.1f} points"
            yield f"The ttl of {advice.ttl:,.0f} s costs {cost} of the hit ratio."


def _of_sizes(advice: CacheAdvice, now: float) -> Iterator[str]:
    twice = next((each for each in advice.sizes if each.entries > advice.entries), None)
    largest = advice.sizes[-1] if advice.sizes else None
    for each in dict.fromkeys(filter(None, (twice, largest))):
        if each.entries > advice.entries and each.hit_ratio - now >= _WORTH:
            times = each.entries / advice.entries
            yield f"{times:.3g} × ({each.entries:,}) gives {each.hit_ratio:.1%}{_spared(each)}."
    if largest is not None and largest.hit_ratio - now < _WORTH:
        yield "A larger near tier would not help: what is left was not asked for before."
    smaller = [each for each in advice.sizes if each.entries < advice.entries]
    good = next((each for each in smaller if each.hit_ratio >= now - _AS_GOOD), None)
    if good is not None:
        yield f"{good.entries:,} entries would do: they give {good.hit_ratio:.1%}."
    if advice.wasted_bytes >= _MUCH:
        megabytes = advice.wasted_bytes / 1e6
        yield f"About {megabytes:,.0f} MB near, over all workers, answers next to nothing."


def _spared(choice: Choice) -> str:
    calls = choice.spared_per_day
    if calls is None or calls < 1:
        return ""
    return f" and spares {calls:,.0f} more model calls a day"
