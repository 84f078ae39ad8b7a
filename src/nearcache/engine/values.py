"""Any values on their way through the tiers: the near tier, the names and the batch of one call."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple

from nearcache.codecs.base import MISSING_KIND, NONE_KIND, Codec
from nearcache.codecs.signing import signer_of
from nearcache.codecs.values import Envelope, decode_value, encode_value
from nearcache.coherence.groups import Group, Groups, digest_of_group, next_moment
from nearcache.coherence.link import ALWAYS, DEAD, Epoch
from nearcache.engine.flights import FlightTable
from nearcache.engine.held import (
    END,
    EPOCH,
    GROUPS,
    HELD_VERSION,
    NO_END,
    READ_AT,
    SIZE,
    SOFT,
    VALUE,
    Freshness,
    Held,
    Pairs,
    hold,
    is_expired,
    kept_for,
    slide,
    slides,
    value_of,
)
from nearcache.engine.rows import ABSENT, FAR, JOINED, LOADED, NEAR, STALE, Ends
from nearcache.entry import MISSING, Loaded
from nearcache.errors import CodecError, ConfigError, LoaderError, UnknownFormat
from nearcache.keys import Key, ValueKeys, check_tags
from nearcache.near.pick import ObjectTier
from nearcache.options import Options, effective_ttl
from nearcache.stores.base import Fetched, version_of

if TYPE_CHECKING:
    from nearcache.clock import Clock
    from nearcache.engine.tracked import Tracked

__all__ = ["ValueBatch", "ValueLanding", "ValueNear", "ValueShelf"]

_HELD_BYTES = 232
"""What a near copy takes beside key and value: the list, its version, its place in time."""
_KEY_BYTES = 60
_NEVER = float("-inf")


class _Space:
    """The first part of a view's near keys: no key of a user's begins with one."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class ValueNear:
    """An object tier that several namespaces share, as the engine sees it.

    The first namespace's keys are the tier's own, so that its hits build no tuple.
    """

    def __init__(self, tier: ObjectTier) -> None:
        self.tier = tier
        self.root = _Space("")

    def new_space(self, name: str) -> Hashable:
        """Return what begins the near keys of one more namespace."""
        return _Space(name)

    def near_key(self, space: Hashable, key: Key) -> Hashable:
        """Return where the tier keeps a key of a namespace."""
        return key if space is self.root else (space, key)

    def drop(self, space: Hashable, keys: Iterable[Key]) -> int:
        """Drop keys of a namespace; return how many were there."""
        return self.tier.drop_many([self.near_key(space, key) for key in keys])

    def drop_shelves(self, spaces: Iterable[Hashable]) -> int:
        """Drop all of some namespaces; return how many entries there were."""
        chosen = set(spaces)
        if not chosen:
            return 0
        gone = [near_key for space, _, near_key in self._entries() if space in chosen]
        return self.tier.drop_many(gone)

    def keys(self, space: Hashable) -> list[Key]:
        """Return the keys of a namespace that are near."""
        return [key for other, key, _ in self._entries() if other is space]

    def _entries(self) -> Iterable[tuple[Hashable, Any, Hashable]]:
        for near_key in self.tier.keys():  # noqa: SIM118  a tier is no dict
            if isinstance(near_key, tuple) and isinstance(near_key[0], _Space):
                yield near_key[0], near_key[1], near_key
            else:
                yield self.root, near_key, near_key

    def __len__(self) -> int:
        return len(self.tier)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tier, name)


class ValueShelf:
    """One namespace: its names, its codec, and what it knows of its groups."""

    def __init__(
        self,
        near: ValueNear,
        space: Hashable,
        keys: ValueKeys,
        codec: Codec,
        clock: "Clock",
        options: Options,
        *,
        record: bool = False,
        ttl: float | None = None,
    ) -> None:
        self.name = space
        self.ttl = ttl
        self.freshness = Freshness.of(options)
        self.record = record  # the store's entries are not a cache's: none may be lost unsaid
        self.near = near
        self.keys = keys
        self.codec = codec
        self.signer = signer_of(options.signing_keys)
        self.clock = clock
        # how long ago a copy must have been the store's own to be served
        self.bound = options.link_timeout + options.serve_unverified
        self.label = keys.space.decode()
        self.groups = Groups()
        self.everything = self.groups.group(keys.groups[0])
        self.flights = FlightTable()  # the engine's, once there is one
        self.tracked: Tracked | None = None

    def tag(self, tag: str) -> Group:
        """Return the group of a tag."""
        group = self.groups.by_tag.get(tag)
        if group is None:
            group = self.group(digest_of_group(tag.encode("utf-8", "surrogatepass")))
            self.groups.name(tag, group)
        return group

    def tags(self, tags: Sequence[str]) -> Sequence[Group]:
        """Return the groups of tags.

        Raises: ConfigError for what is no list of tags.
        """
        known = self.groups.by_tag
        if type(tags) is list or type(tags) is tuple:
            try:
                # each has been checked before
                return list(dict.fromkeys([known[tag] for tag in tags]))
            except (KeyError, TypeError):
                pass
        return [self.tag(tag) for tag in check_tags(tags)]

    def group(self, digest: bytes) -> Group:
        """Return the group of a digest."""
        return self.groups.group(self.keys.group(digest), digest)

    def near_key(self, key: Key) -> Hashable:
        """Return where the near tier keeps a key."""
        return self.near.near_key(self.name, key)

    def put_alone(self, key: Key, value: Any, life: float | None, groups: Sequence[Group]) -> bool:
        """Keep a value where there is no store, the quick way; say whether that could be done.

        Raises: CodecError for what the codec cannot write.
        """
        codec, now = self.codec, self.clock()
        payload = codec.encode(value)
        size = len(payload)
        end = 0.0 if life is None else now + life
        soft = end - self.bound if end else NO_END[0]
        pairs = self.pairs_alone(groups) if groups else ()
        if codec.shares(value):
            held = [value, None, b"", ALWAYS, now, pairs, size, soft, end]
        else:
            held = [payload, codec.decode, b"", ALWAYS, now, pairs, size, soft, end]
        size += self.keys.length(key) + _KEY_BYTES + _HELD_BYTES
        with self.flights.lock:
            if len(self.flights):  # somebody may be loading it
                return False
            self.near.tier.put(self.near_key(key), held, end, size)
            return True

    def put_near(self, name: bytes, key: Key, held: Held, end: float) -> int:
        """Keep a copy near; return how many others left."""
        size = held[SIZE] + len(name) + _KEY_BYTES + _HELD_BYTES
        evicted = self.near.tier.put(self.near_key(key), held, end, size)
        if self.tracked is not None:
            self.tracked.kept(name, held)
        return evicted

    def pairs_alone(self, groups: Iterable[Group]) -> Pairs:
        """Return groups with their tokens, where no other process has a say."""
        return tuple((group, self.groups.alone(group)) for group in groups)

    def finder(self) -> Callable[[Any], Held | None]:
        """Return how to look a key up near, as directly as can be."""
        get, space = self.near.tier.get, self.name
        if space is self.near.root:
            return get
        return lambda key: get((space, key))

    def set_far_ends(
        self, held: Held, envelope: Envelope, fetched: Fetched, wants: Freshness, life: float | None
    ) -> float | None:
        """Note when a copy from the store ends here; return its second end, None if that is past.

        However long the answer took, it ends here no later than there.
        """
        if envelope.expiry < 0:
            return slide(held, fetched.sent, -envelope.expiry, self.bound)
        if not envelope.expiry:
            return 0.0
        if envelope.dead_at <= fetched.now:
            return None
        end = fetched.sent + (envelope.expiry - fetched.now)
        if held[VALUE] is MISSING:
            wants.set_ends(held, fetched.sent, end, self.bound)
        else:
            left = envelope.expiry - fetched.now
            wants.set_first_end(held, end, min(life or self.ttl or left, left), self.bound)
        return fetched.sent + (envelope.dead_at - fetched.now)

    def slide_near(self, name: bytes, key: Key, held: Held) -> None:
        """Let a sliding copy that was read live on, and its value in the store, too."""
        now, life = self.clock(), -held[END]
        end = slide(held, now, life, self.bound)
        if self.tracked is not None:
            self.tracked.touch(name, held)
        with self.flights.lock:
            found = self.near.tier.peek(self.near_key(key))
            if found is not None and found[0] is held:  # nobody forgot it meanwhile
                self.put_near(name, key, held, end)

    def valid_near(self, keys: Iterable[Key]) -> set[Key]:
        """Return those of some keys of which a get would be answered from near."""
        now = self.clock()
        found = set()
        for key in keys:
            one = self.near.tier.peek(self.near_key(key))
            if one is None or one[0][VALUE] is MISSING or is_expired(one[0], now):
                continue
            if self.servable(one[0], now - self.bound):
                found.add(key)
        return found

    def servable(self, held: Held, since: float) -> bool:
        """Say whether a near copy may be served that must be no older than ``since``."""
        if held[EPOCH].heard <= since and held[READ_AT] <= since:
            return False
        return all(group.token is token for group, token in held[GROUPS])

    def start_anew(self) -> None:
        """Take new locks: after a fork another thread may have held the old ones."""
        self.groups.start_anew()

    def forget_size(self) -> None:
        """Nothing: values have no dimension."""


class ValueOne:
    """One key that was read from the store, where there is nothing special about it."""

    __slots__ = ("everything", "handle", "held", "keys", "shelf")

    def __init__(self, shelf: ValueShelf, name: bytes, key: Key) -> None:
        self.shelf = shelf
        self.keys = (name,)
        self.handle = key
        self.everything = b""
        self.held: list[Held] = []

    def read(
        self,
        data: bytes,
        fetched: Fetched,
        token: bytes,
        epoch: Epoch,
        good_at: float,
        outdated: Callable[[Sequence[Group]], Sequence[Group]],
    ) -> float | None:
        """Take an entry; return when it ends, or None if it is not simply valid.

        outdated: which of some groups have tokens that must be read first.
        """
        shelf, pairs = self.shelf, list[tuple[Group, bytes]]()
        try:
            envelope = decode_value(data, self.keys[0], shelf.signer)
            if envelope.everything != token or 0 < envelope.expiry <= fetched.now:
                return None
            for digest, written in envelope.groups:
                group = shelf.group(digest)
                known = group.token
                if known is None or known != written or outdated((group,)):
                    return None
                pairs.append((group, known))
                epoch = epoch if group.epoch is epoch else DEAD
                good_at = min(good_at, group.good_at)
            held = hold(shelf.codec, envelope, tuple(pairs), epoch, good_at)
        except CodecError:
            return None
        end = shelf.set_far_ends(held, envelope, fetched, shelf.freshness, shelf.ttl)
        if end is not None and slides(held) and shelf.tracked is not None:
            shelf.tracked.touch(self.keys[0], held)
        self.held.append(held)
        self.everything = token
        return end

    def place(self, _key: bytes) -> int:
        """Return the position of its key."""
        return 0

    def install(self, end: float) -> None:
        """Keep it near. Under the lock."""
        self.shelf.put_near(self.keys[0], self.handle, self.held[0], end)


class ValueLanding(NamedTuple):
    """Positions of a batch that are ready for near, and when each ends (monotonic, 0 for never).

    That is the second end, until which near and the store keep it.
    """

    positions: list[int]
    expires: list[float]
    own: bool = False
    """Whether this process wrote them to the store just now."""

    def only(self, kept: set[int]) -> "ValueLanding":
        """Return the part of it at the positions ``kept``."""
        pairs = [(i, end) for i, end in zip(*self[:2], strict=True) if i in kept]
        return self._replace(positions=[i for i, _ in pairs], expires=[end for _, end in pairs])

    def lives(self, since: float) -> list[float | None]:
        """Return the seconds each lives from the monotonic time ``since``; None for ever."""
        return [end - since if end else None for end in self.expires]


class ValueBatch:
    """Distinct keys of one namespace, and what was found for them so far."""

    changes = True

    def __init__(
        self,
        shelf: ValueShelf,
        keys: Sequence[Key],
        tags: Sequence[Group] = (),
        *,
        staleness: float | None = None,
        life: float | None = None,
        wants: Freshness | None = None,
    ) -> None:
        self.shelf = shelf
        self.wants = wants or shelf.freshness
        self.handles = keys
        self.keys = shelf.keys.values(keys)
        self.tags = tags
        self.life = life
        self.staleness = staleness
        self._begin()

    def _begin(self) -> None:
        count = len(self.keys)
        self.held: list[Held | None] = [None] * count
        self.origin = [ABSENT] * count
        self.shared = False  # values are isolated from each other anyway
        self.seen = [b""] * count
        self.everything = b""
        self.tokens: dict[Group, bytes] = {}  # as they were read for this call
        self.pairs: Pairs = () if self.shelf.tracked else self.shelf.pairs_alone(self.tags)
        self.bumps = 0
        self.loading_at = 0  # the moment at which its loader was first called
        self.after: list[bytes] = []  # the tokens that its groups had after it was written
        self.tried: dict[bytes, bytes] = {}  # by key, the versions of every attempt to write it
        self.expected: list[bytes] | None = None  # what it may replace; None for whatever there is
        self.overtaken = False  # something else was there
        self._seen_near: list[Held | None] = []
        self.seen_pairs: Pairs = ()
        self.seen_everything = b""
        self.loaded_tags: dict[int, list[Group]] = {}
        self.epoch: Epoch = DEAD
        self.read_at = _NEVER
        self.stale: dict[int, Held] = {}  # expired, but kept to stand in
        self.due: set[int] = set()  # answered; to be loaded anew behind the answer
        self.renews: dict[int, Held] | None = None  # the copies this call is to replace
        self._envelopes: dict[int, Envelope] = {}
        self._stale_ends: dict[int, float] = {}
        self._damaged: set[int] = set()
        self._places: dict[bytes, int] = {}

    @property
    def kept_for(self) -> float | None:
        """How long the groups of its values have to live: as long as these may be found."""
        if self.life is None:
            return None
        return kept_for(self.life) if self.wants.sliding else self.life + self.wants.grace

    @property
    def fresh(self) -> bool:
        """Whether it must be read from the store now, whoever else is reading."""
        return self.staleness == 0

    def keys_at(self, positions: Sequence[int]) -> list[bytes]:
        """Return the stored names at some positions."""
        return self.keys if len(positions) == len(self.keys) else [self.keys[i] for i in positions]

    def value(self, position: int) -> Any:
        """Return what was found at a position, which there is; a copy of the caller's own."""
        held = self.held[position]
        assert held is not None, "somebody found it"
        return value_of(held)

    def answer(self, position: int) -> Any:
        """Return the value at a position, or MISSING."""
        return MISSING if self.origin[position] == ABSENT else self.value(position)

    # -- near --------------------------------------------------------------------------------

    def look_near(self, positions: Sequence[int]) -> list[int]:
        """Take from the near tier what may be served; return the positions that may not."""
        shelf = self.shelf
        if self.staleness is not None and self.staleness <= 0:
            return list(positions)
        bound = shelf.bound if self.staleness is None else min(shelf.bound, self.staleness)
        now = shelf.clock()
        left = []
        for i in positions:
            held = shelf.near.tier.get(shelf.near_key(self.handles[i]))
            if held is None or not shelf.servable(held, now - bound):
                left.append(i)
            elif is_expired(held, now):
                self.stale[i] = held
                left.append(i)
            elif self._is_to_be_renewed(i, held):
                left.append(i)
            else:
                self.held[i], self.origin[i] = held, NEAR
                if now - shelf.bound >= held[SOFT]:
                    self._is_due(i, held)
        return left

    def renew(self, held: Sequence[Held | None]) -> None:
        """Be a call that loads these copies anew: others than these will do, too."""
        self.renews = {i: one for i, one in enumerate(held) if one is not None}

    def _is_due(self, position: int, held: Held) -> None:
        """Deal with a copy that serves, but is no longer young."""
        if slides(held):
            self.shelf.slide_near(self.keys[position], self.handles[position], held)
        elif held[VALUE] is not MISSING:
            self.due.add(position)

    def stand_in(self, positions: Iterable[int], seconds: float) -> list[int]:
        """Answer with what expired less than ``seconds`` ago; return the positions that cannot."""
        now, left = self.shelf.clock(), []
        for i in positions:
            held = self.stale.get(i)
            if held is None or now >= held[END] + seconds:
                left.append(i)
            else:
                self.held[i], self.origin[i] = held, STALE
                self.due.add(i)
        return left

    def see_near(self) -> None:
        """Take what is near now, where there is no store; ``sees_the_same`` compares with it."""
        self._seen_near = self._peeked()
        self.look_near(range(len(self.keys)))

    def sees_the_same(self) -> bool:
        """Say whether near still has the very copies that were seen. Under the lock."""
        same = all(a is b for a, b in zip(self._seen_near, self._peeked(), strict=True))
        return same and self.follows()

    def keep_tags(self) -> None:
        """Let a value that is about to follow from another one have its tags.

        They, and everything, must be the same at the write: what follows from a forgotten value is
        forgotten, too.
        """
        (held,) = self.held
        if held is not None and held[VALUE] is not MISSING:
            self.seen_pairs = held[GROUPS]
            self.seen_everything = self.everything
            self.tags = [group for group, _ in self.seen_pairs]
            self.pairs = self.seen_pairs
        elif self.shelf.tracked is None:  # as they are now, after change()
            self.pairs = self.shelf.pairs_alone(self.tags)

    def life_left(self, now: float) -> float | None:
        """Return the seconds that the value which was seen has left, or slides by; None: no end."""
        (held,) = self.held
        if held is None or held[VALUE] is MISSING:
            return self.life
        if slides(held):
            return float(-held[END])
        return held[END] - now if held[END] else None

    def follows(self) -> bool:
        """Say whether the groups of the value that was seen are what they were."""
        if self.seen_everything not in (b"", self.everything):
            return False
        if self.shelf.tracked is None:
            return all(group.token is token for group, token in self.pairs)
        return not self.seen_pairs or self.pairs == self.seen_pairs

    def _peeked(self) -> list[Held | None]:
        near = self.shelf.near.tier
        found = [near.peek(self.shelf.near_key(key)) for key in self.handles]
        return [None if one is None else one[0] for one in found]

    def install(self, landing: ValueLanding, names: set[bytes]) -> int:
        """Put near what is ours of a landing; return how many others left. Under the lock."""
        shelf, evicted = self.shelf, 0
        for i, end in zip(landing.positions, landing.expires, strict=True):
            held, name = self.held[i], self.keys[i]
            if held is None:
                held = self.stale.get(i)
            if held is None or name not in names or held[READ_AT] == _NEVER:
                continue
            if landing.own and shelf.tracked is not None and held[HELD_VERSION]:
                shelf.tracked.wrote(name, held)
            evicted += shelf.put_near(name, self.handles[i], held, end)
        return evicted

    # -- store -------------------------------------------------------------------------------

    def open(self, positions: Sequence[int], values: Sequence[bytes | None]) -> set[Group]:
        """Read entries as far as their envelopes; return the groups whose tokens decide."""
        groups: set[Group] = set()
        for i, data in zip(positions, values, strict=True):
            self.seen[i] = version_of(data)
            self._envelopes.pop(i, None)
            if data is None:
                continue
            try:
                envelope = decode_value(data, self.keys[i], self.shelf.signer)
            except CodecError as error:
                if self.shelf.record:
                    raise
                if not isinstance(error, UnknownFormat):  # of a later version, perhaps: let alone
                    self._damaged.add(i)
                continue
            self._envelopes[i] = envelope
            groups.update(self.shelf.group(digest) for digest, _ in envelope.groups)
        return groups

    def accept(
        self, positions: Sequence[int], fetched: Fetched, origin: int = FAR
    ) -> tuple[ValueLanding | None, list[int]]:
        """Take what is valid of the entries that were opened; also say which are damaged."""
        here: list[int] = []
        expires: list[float] = []
        damaged = [i for i in positions if i in self._damaged]
        self._damaged.difference_update(damaged)
        for i in positions:
            envelope = self._envelopes.pop(i, None)
            if envelope is None or not self._is_current(envelope, fetched.now):
                continue
            pairs = self._pairs(envelope)
            if pairs is None:
                continue
            try:
                held = self._hold(envelope, pairs)
            except CodecError as error:
                if self.shelf.record:
                    raise
                if not isinstance(error, UnknownFormat):  # of another codec: a miss
                    damaged.append(i)
                continue
            end = self.shelf.set_far_ends(held, envelope, fetched, self.wants, self.life)
            if end is None or self._is_to_be_renewed(i, held):
                continue
            if is_expired(held, fetched.sent):
                self.stale[i] = held
                self._stale_ends[i] = end
                continue
            self.held[i], self.origin[i] = held, origin
            here.append(i)
            expires.append(end)
            if slides(held) and self.shelf.tracked is not None:
                self.shelf.tracked.touch(self.keys[i], held)
            elif fetched.sent - self.shelf.bound >= held[SOFT] and held[VALUE] is not MISSING:
                self.due.add(i)
        return (ValueLanding(here, expires) if here else None), damaged

    def _is_to_be_renewed(self, position: int, held: Held) -> bool:
        old = None if self.renews is None else self.renews.get(position)
        if old is None:
            return False
        return held is old or bool(old[HELD_VERSION] and old[HELD_VERSION] == held[HELD_VERSION])

    def stale_landing(self) -> ValueLanding | None:
        """Return what the store had that expired, for near to keep, once."""
        ends, self._stale_ends = self._stale_ends, {}
        return ValueLanding(list(ends), list(ends.values())) if ends else None

    def _is_current(self, envelope: Envelope, now: float) -> bool:
        return envelope.everything == self.everything and not 0 < envelope.dead_at <= now

    def _pairs(self, envelope: Envelope) -> Pairs | None:
        """Return an entry's groups with their tokens, or None if one of them was forgotten."""
        pairs = []
        for digest, token in envelope.groups:
            group = self.shelf.group(digest)
            read = self.tokens.get(group)
            current = group.token or read
            if not current or current != token or (self.fresh and read == b""):
                return None
            pairs.append((group, current))
        return tuple(pairs)

    def _hold(self, envelope: Envelope, pairs: Pairs) -> Held:
        epoch, read_at = self.epoch, self.read_at
        for group, _ in pairs:
            epoch = epoch if group.epoch is epoch else DEAD
            read_at = min(read_at, group.good_at)
        return hold(self.shelf.codec, envelope, pairs, epoch, read_at)

    def pack(
        self, landing: ValueLanding, versions: Sequence[bytes], ends: Sequence[float]
    ) -> list[bytes]:
        """Return the entries to store; ``ends`` are in the store's time, 0 for never."""
        parts = zip(landing.positions, versions, ends, landing.expires, strict=True)
        return [self._entry(i, version, end, here) for i, version, end, here in parts]

    def _entry(self, position: int, version: bytes, end: float, end_here: float) -> bytes:
        held = self.held[position]
        assert held is not None, "it is about to be written"
        value, decode, _, _, _, pairs, *_ = held
        kind, payload = self.shelf.codec.kind, value
        if value is None:
            kind, payload = NONE_KIND, b""
        elif value is MISSING:
            kind, payload = MISSING_KIND, b""
        elif decode is None:
            payload = self.shelf.codec.encode(value)
        expiry = end
        if slides(held):  # the store's own ttl ends it, which reads prolong
            expiry, end = held[END], 0.0
        elif held[END]:
            expiry = end - (end_here - held[END])
        return encode_value(
            kind,
            payload,
            name=self.keys[position],
            version=version,
            expiry=expiry,
            dead_at=end,
            everything=self.everything,
            groups=[(group.digest, token) for group, token in pairs],
            signer=self.shelf.signer,
        )

    # -- values from here ----------------------------------------------------------------------

    def inputs(self, positions: Sequence[int]) -> list[Key]:
        """Return what the loader is asked for."""
        self.loading_at = self.loading_at or next_moment()
        if self.read_at == _NEVER:  # else it is earlier, from the look into the store
            self.read_at = self.shelf.clock()
            self.bumps = self.shelf.groups.bumps
        return [self.handles[i] for i in positions]

    def loaded(
        self, positions: Sequence[int], output: Any, loaded_at: float, ends: Ends
    ) -> ValueLanding:
        """Take a loader's answers: a value or ``Loaded`` each, MISSING where there is none.

        Raises: LoaderError for what cannot be stored; nothing of this call is taken then.
        """
        taken: list[tuple[int, Held, float | None]] = []
        for i, answer in zip(positions, output, strict=True):
            value, ttl, tags = answer if isinstance(answer, Loaded) else Loaded(answer)
            if value is MISSING and ttl is ...:
                ttl = self.wants.negative
            if value is MISSING and not ttl:
                continue
            try:
                pairs = (*self.pairs, *self._loaded_pairs(i, check_tags(tags)))
                life = effective_ttl(ttl, ends.life)
                held = self._fresh(value, pairs)
                if len(pairs) < len(self.tags) + len(tags):
                    held[READ_AT] = _NEVER  # without its groups' tokens it may not be kept
                taken.append((i, held, life))
            except (CodecError, ConfigError) as error:
                raise LoaderError(f"{self.shelf.label}: {error}") from error
        for i, held, _ in taken:
            self.held[i], self.origin[i] = held, LOADED
        kept = [(i, held, ttl) for i, held, ttl in taken if ttl != 0]
        ends_of_kept = [
            self._set_ends(held, loaded_at, ends._replace(life=ttl).one(loaded_at))
            for _, held, ttl in kept
        ]
        return ValueLanding([i for i, _, _ in kept], ends_of_kept, own=True)

    def _set_ends(self, held: Held, now: float, end: float) -> float:
        return self.wants.set_ends(held, now, end, self.shelf.bound)

    def _loaded_pairs(self, position: int, tags: Sequence[str]) -> Pairs:
        """Return the groups that a loader named; with a store their tokens have yet to be read."""
        if not tags:
            return ()
        groups = self.loaded_tags[position] = [self.shelf.tag(tag) for tag in tags]
        if self.shelf.tracked is not None:
            return ()
        # one that was bumped during the load: the value may be of before, so nobody may find it
        current = self.shelf.pairs_alone(groups)
        return tuple((g, b"" if g.bumped > self.bumps else token) for g, token in current)

    def nothing(self, positions: Sequence[int]) -> list[int]:
        """Return the positions for which the loader had nothing."""
        return [i for i in positions if self.held[i] is None]

    def given(self, values: Sequence[Any], now: float, ends: Ends) -> ValueLanding:
        """Take values that the caller brought, one for each key.

        Raises: CodecError for what cannot be stored.
        """
        self.read_at = now
        if any(value is MISSING for value in values):
            raise CodecError("MISSING is no value: use invalidate() to forget a key")
        held = [self._fresh(value, self.pairs) for value in values]
        self.held, self.origin = list(held), [LOADED] * len(held)
        ends_of_all = [self._set_ends(one, now, ends.one(now)) for one in held]
        return ValueLanding(list(range(len(held))), ends_of_all, own=True)

    def _fresh(self, value: Any, pairs: Pairs) -> Held:
        codec = self.shelf.codec
        nothing = value is None or value is MISSING
        payload = b"" if nothing else codec.encode(value)
        alone = self.shelf.tracked is None
        place = [b"", ALWAYS if alone else DEAD, self.read_at, pairs, len(payload), *NO_END]
        if nothing or codec.shares(value):
            return [value, None, *place]
        return [payload, codec.decode, *place]

    def part(self, positions: Sequence[int]) -> "ValueBatch":
        """Return a batch of some of its keys."""
        part = copy(self)
        part.handles = [self.handles[i] for i in positions]
        part.keys = [self.keys[i] for i in positions]
        part._begin()
        return part

    def take(self, positions: Sequence[int], part: "ValueBatch") -> None:
        """Take what a part got."""
        for i, held, origin in zip(positions, part.held, part.origin, strict=True):
            self.held[i], self.origin[i] = held, origin
        self.stale.update((positions[i], held) for i, held in part.stale.items())
        self.due.update(positions[i] for i in part.due)

    def bytes_from(self, origins: Sequence[int]) -> int:
        """Return the bytes of the values that came from there."""
        pairs = zip(self.held, self.origin, strict=True)
        return sum(held[SIZE] for held, origin in pairs if held is not None and origin in origins)

    def may_take(self, other: "ValueBatch | ValueOne", key: bytes) -> bool:
        """Say whether what another call got is still of current groups.

        ::

            a load with the tag t           this process            a later call
            reads the token of t
            loads v
                                            bumps t
                                                                    joins the load
            v, of the token before: good for its own caller alone
        """
        shelf = self.shelf
        held = other.held[other.place(key)]
        if held is None or held[READ_AT] == _NEVER:
            return False
        if shelf.tracked is not None and other.everything not in (b"", shelf.everything.token):
            return False
        return all(group.token is token for group, token in held[GROUPS])

    def taken_from(self, other: "ValueBatch", positions: Sequence[int]) -> None:
        """Take what another batch of the same namespace got."""
        for i in positions:
            self.held[i], self.origin[i] = other.held[other.place(self.keys[i])], JOINED

    def place(self, key: bytes) -> int:
        """Return the position of one of its keys."""
        if not self._places:
            self._places = {key: i for i, key in enumerate(self.keys)}
        return self._places[key]
