"""Agents: who they are, what they may do, and how long they keep things."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from nearcache.errors import ConfigError

__all__ = ["SHARED", "AccessTier", "AgentCredentials", "TTLStrategy", "check_name", "require"]

SHARED = "shared"
"""The agent id whose keys every contributor may update."""


class AccessTier(IntEnum):
    """What an agent is trusted with; each tier may do what those below it may."""

    OBSERVER = 1
    CONTRIBUTOR = 2
    VALIDATOR = 3
    STEWARD = 4


class TTLStrategy(IntEnum):
    """Usual lives of what an agent keeps, in seconds; any other number is a life, too."""

    WORKING_RESULTS = 3600
    STAGED_PATTERNS = 86_400
    COORDINATION = 300
    CONFLICT_CONTEXT = 604_800
    SESSION = 1800
    STREAM_ENTRY = 604_800
    TASK_QUEUE = 14_400


@dataclass(frozen=True, slots=True)
class AgentCredentials:
    """An agent and its tier. ``roles`` are the program's own; nothing here asks for them."""

    agent_id: str
    tier: AccessTier
    roles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "agent_id", check_name("agent_id", self.agent_id))
        if isinstance(self.tier, bool) or self.tier not in tuple(AccessTier):
            msg = f"tier is an AccessTier (1 to 4), not {self.tier!r}"
            raise ConfigError(msg)
        object.__setattr__(self, "tier", AccessTier(self.tier))
        if isinstance(self.roles, str) or not all(isinstance(role, str) for role in self.roles):
            msg = f"roles are strings in a tuple, not {self.roles!r}"
            raise ConfigError(msg)
        object.__setattr__(self, "roles", tuple(self.roles))


def check_name(what: str, name: object) -> str:
    """Return an agent id or a key if it is a str, not empty; what a subclass says is ignored."""
    if not isinstance(name, str) or not name:
        msg = f"{what} is a str, not empty; not {type(name).__name__}"
        raise ConfigError(msg)
    return str.__str__(name)


def require(credentials: object, tier: AccessTier, what: str) -> AgentCredentials:
    """Return credentials that allow something, as plain values.

    Raises: PermissionError, which names the tier needed.
    """
    credentials = _plain(credentials)
    if credentials.tier < tier:
        msg = (
            f"to {what} takes the tier {tier.name};"
            f" agent {credentials.agent_id!r} is {credentials.tier.name}"
        )
        raise PermissionError(msg)
    return credentials


def _plain(credentials: object) -> AgentCredentials:
    # asked of the type: an object may say that it is of any class
    if not issubclass(type(credentials), AgentCredentials):
        msg = f"credentials is an AgentCredentials, not {type(credentials).__name__}"
        raise ConfigError(msg)
    given: Any = credentials
    try:
        who, tier = given.agent_id, given.tier
    except AttributeError as error:
        msg = f"credentials are incomplete: {error}"
        raise ConfigError(msg) from error
    if type(given) is AgentCredentials and type(who) is str and who and type(tier) is AccessTier:
        return given
    return AgentCredentials(who, tier)
