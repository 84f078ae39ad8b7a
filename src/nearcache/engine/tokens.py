"""What one namespace knows of its groups' tokens, and how it comes to know them.

A token is believed as long as the link would tell of its end (``Group.good_at``). One whose group
this process forgot, and could not tell the store yet, stays unknown.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nearcache.coherence.groups import (
    BUMP_LIFE,
    TOKEN_BYTES,
    Group,
    Groups,
    Ticket,
    bumped_since,
)
from nearcache.coherence.link import DEAD, Epoch
from nearcache.engine.access import Access
from nearcache.engine.held import GROUPS, READ_AT
from nearcache.engine.io import IO
from nearcache.engine.values import ValueBatch, ValueLanding, ValueShelf

if TYPE_CHECKING:
    from nearcache.engine.engine import Engine

__all__ = ["Tokens"]

_LOOKS = 5  # at tokens that a push may take away between two of them


class Tokens:
    """The tokens of one namespace.

    ``epoch`` is the link's present one. ``doubted`` says that everything may have been forgotten:
    its token is being read again.
    """

    def __init__(self, engine: "Engine", shelf: ValueShelf, access: Access) -> None:
        self._engine = engine
        self._shelf = shelf
        self._access = access
        self._bound = engine.options.link_timeout
        self.start_anew()

    def start_anew(self) -> None:
        """Trust nothing that the parent's link would hear of."""
        self.epoch: Epoch = DEAD
        self.doubted = False

    def outdated(self, groups: Sequence[Group]) -> list[Group]:
        """Return the groups whose tokens have to be read: unknown, or not heard of for long."""
        since, epoch = self._engine.clock() - self._bound / 2, self.epoch
        return [
            group
            for group in groups
            if group.token is None
            or group.good_at <= since
            or (group.epoch is not epoch and epoch is not DEAD)
        ]

    def learn(self, ticket: Ticket, tokens: Sequence[bytes], epoch: Epoch, sent: float) -> bool:
        """Take tokens that were read; say whether what is near is still of the same everything."""
        everything, same = self._shelf.everything, True
        with self._engine.flights.lock:
            for (group, number), token in zip(ticket, tokens, strict=True):
                group.note(token)
                if group is not everything:
                    continue
                if group.ticket == number:
                    self.doubted = False
                if group.was_another(token):
                    # it was forgotten while we did not hear: what is near does not say of which
                    # everything it is
                    self._engine.drop_everything()
                    same = False
            # one that this process forgot, and could not tell the store yet, stays forgotten
            known = [
                (entry, token)
                for entry, token in zip(ticket, tokens, strict=True)
                if not self._access.is_queued(entry[0].name)
            ]
            Groups.learn([entry for entry, _ in known], [t for _, t in known], epoch, sent)
        return same

    async def made(
        self, io: IO, groups: Sequence[Group], life: float | None, epoch: Epoch
    ) -> list[bytes] | None:
        """Return the tokens of groups, made where absent, for values that live ``life`` seconds."""
        ticket, sent = Groups.ticket(groups), self._engine.clock()
        names = [group.name for group in groups]
        tokens: list[bytes] | None = await self._access.ask(io, "epochs", names, life)
        if tokens is not None and any(len(token) != TOKEN_BYTES for token in tokens):
            self._access.say("epoch", "%s holds an epoch that is none", self._access.store.address)
            return None
        if tokens is not None:
            self.learn(ticket, tokens, epoch, sent)
            until = float("inf") if life is None else sent + life
            for group in groups:
                group.lives_until = max(group.lives_until, until)
        return tokens

    async def know(self, io: IO, batch: ValueBatch, life: float | None) -> bool:
        """Have the tokens of a call's own tags, in keys that outlive its values."""
        epoch, until = self.epoch, float("inf") if life is None else self._engine.clock() + life
        for _ in range(_LOOKS):
            unknown = [g for g in batch.tags if g.lives_until < until]
            unknown += [g for g in self.outdated(batch.tags) if g not in unknown]
            tokens: dict[Group, bytes] = {}
            if unknown:
                made = await self.made(io, unknown, life, epoch)
                if made is None:
                    return False
                tokens = dict(zip(unknown, made, strict=True))
            batch.pairs = tuple((g, g.token or tokens.get(g, b"")) for g in batch.tags)
            if all(token for _, token in batch.pairs):
                return True
            # a push took a token that was known a moment ago
        return False

    async def take(self, io: IO, batch: ValueBatch, epoch: Epoch) -> bool:
        """Give values that are about to be put the tokens they are written under."""
        everything = self._shelf.everything
        token = everything.token
        if token is None or self.outdated([everything]):
            made = await self.made(io, [everything], None, epoch)
            if made is None:
                return False
            token = made[0]
        batch.everything = token
        if not await self.know(io, batch, batch.kept_for):
            return False
        for held in batch.held:
            if held is not None:
                held[GROUPS] = batch.pairs
        return True

    async def know_loaded(
        self, io: IO, batch: ValueBatch, landing: ValueLanding, epoch: Epoch
    ) -> bool:
        """Have the tokens of tags that the loader named with its value.

        They are read after the load. One that was bumped meanwhile says so (``bump_token``), if it
        is not one that was read before the load: the value may be of before, so it is written under
        a token that is no longer current.
        """
        tags = {group for i in landing.positions for group in batch.loaded_tags.get(i, ())}
        if not tags:
            return True
        groups = list(tags)
        tokens = await self.made(io, groups, batch.kept_for, epoch)
        now = await self._access.ask(io, "now")
        if tokens is None or now is None:
            return False
        took = self._engine.clock() - batch.read_at
        token_of = {}
        for group, token in zip(groups, tokens, strict=True):
            bumped = bumped_since(token, now - took) or took > BUMP_LIFE / 2
            if bumped and not group.was_seen(token, batch.loading_at):
                token_of[group] = os.urandom(TOKEN_BYTES)
            else:
                token_of[group] = _object_of(group, token)
        for i in landing.positions:
            held = batch.held[i]
            if held is not None and i in batch.loaded_tags:
                named = tuple((group, token_of[group]) for group in batch.loaded_tags[i])
                held[GROUPS] = (*batch.pairs, *named)
                if len(batch.pairs) == len(batch.tags):
                    held[READ_AT] = batch.read_at
        return True


def _object_of(group: Group, token: bytes) -> bytes:
    """Return the object that stands for a token near, if it is the group's present one."""
    return group.token if group.token is not None and group.token == token else token
