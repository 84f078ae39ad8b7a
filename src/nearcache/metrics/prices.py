"""What loads cost, and so what the cache has saved: by prices that the user gives.

A cache knows how many values were loaded, and how many were not because it had them. It does not
know tokens: texts are gone when they are counted. So a price is one of a value, a text say; from a
provider's price per million tokens it follows by how many tokens a text has on average, which
whoever pays can look up: the tokens on the bill, divided by ``loads``. (``nearcache serve`` counts
both: ``nearcache_tokens_total / nearcache_misses_total``.)
"""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from nearcache.errors import ConfigError

__all__ = ["Prices", "per_text"]

_ANY = "*"


def per_text(per_million: float, *, tokens: float) -> float:
    """Return the price of a text of so many tokens, on average, from that of a million tokens."""
    return per_million * tokens / 1_000_000


@dataclass(frozen=True, slots=True)
class Prices:
    """What one value costs to load, by namespace; "*" for all that are not named.

    Values of a namespace that is not priced cost nothing that anybody could tell: no figure is
    made up for them.
    """

    of: Mapping[str, float]
    currency: str = "USD"

    def __post_init__(self) -> None:
        if not isinstance(self.of, Mapping):
            msg = f'prices are by namespace, {{"embeddings": 0.000005}}, not {self.of!r}'
            raise ConfigError(msg)
        for namespace, price in self.of.items():
            if not isinstance(namespace, str):
                msg = f"prices are by namespace, a str, not {namespace!r}"
                raise ConfigError(msg)
            if not _is_price(price):
                msg = f"the price of {namespace!r} is a number, 0 or more, not {price!r}"
                raise ConfigError(msg)
        if not isinstance(self.currency, str) or not self.currency.isprintable():
            msg = f"a currency is a name, like USD, not {self.currency!r}"
            raise ConfigError(msg)

    @classmethod
    def from_file(cls, path: str | PathLike[str]) -> "Prices":
        """Read prices from a TOML file::

            currency = "EUR"

            [price]                 # of one value
            "*" = 0
            embeddings = 0.000005

            [tokens]                # or of a million tokens, and how many a value has on average
            answers = { per_million = 0.15, mean = 850 }

        Raises: ConfigError, which says what is wrong with the file.
        """
        try:
            found = tomllib.loads(Path(path).read_text("utf-8"))
        except OSError as error:
            raise ConfigError(f"the price file cannot be read: {error}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is no TOML: {error}") from error
        unknown = found.keys() - {"currency", "price", "tokens"}
        if unknown:
            msg = f"{path}: unknown {min(unknown)!r}; known: currency, [price], [tokens]"
            raise ConfigError(msg)
        priced, tokens = (_table(path, found, name) for name in ("price", "tokens"))
        by_token = {name: _by_tokens(path, name, given) for name, given in tokens.items()}
        return cls({**priced, **by_token}, found.get("currency", "USD"))

    def price(self, namespace: str) -> float | None:
        """Return what one value of a namespace costs; None where nobody said."""
        return self.of.get(namespace, self.of.get(_ANY))

    def money(self, namespace: str, values: float) -> float | None:
        """Return what so many values of a namespace cost; None where nobody said."""
        price = self.price(namespace)
        return None if price is None else price * values


def _table(path: object, found: dict[str, Any], name: str) -> dict[str, Any]:
    table = found.get(name, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: [{name}] is a table, not {table!r}")
    return table


def _by_tokens(path: object, name: str, given: object) -> float:
    if not isinstance(given, dict) or given.keys() != {"per_million", "mean"}:
        msg = f"{path}: tokens of {name!r} are {{ per_million = …, mean = … }}, not {given!r}"
        raise ConfigError(msg)
    for each in given.values():
        if not _is_price(each):
            raise ConfigError(f"{path}: tokens of {name!r} are numbers, 0 or more, not {each!r}")
    return per_text(given["per_million"], tokens=given["mean"])


def _is_price(price: object) -> bool:
    if isinstance(price, bool) or not isinstance(price, (int, float)):
        return False
    return math.isfinite(price) and price >= 0
