"""Money as integer paise: parsing, formatting, the one rounding rule, exact splitting.

The public API speaks rupees as decimal strings; everything inside counts paise. A float never carries money: prices from
a broker's JSON enter through `paise_from_broker`, which goes by way of the shortest decimal text of the number.
"""

import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from itertools import compress, groupby
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

K = TypeVar("K", bound=Hashable)

BPS_ONE = 10_000
MAX_PAISE = 10**16
"""Upper bound of any amount accepted from outside (a hundred lakh crore rupees): far from the BIGINT limit on purpose."""

_RUPEES = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,2})?\Z")


class InvalidAmount(ValueError):
    """The text is not an amount of rupees with at most two decimals."""


def parse_rupees(text: str, *, allow_negative: bool = False) -> int:
    """Paise of a rupee amount such as `"1234.5"`.

    Raises InvalidAmount for more than two decimals, exponents, signs other than a permitted minus, NaN or absurd size.
    """
    if not isinstance(text, str) or not _RUPEES.match(text):
        # Without the text: this message goes into answers, and a client may have put anything into the field.
        raise InvalidAmount("not an amount in rupees with at most two decimals")
    paise = int(Decimal(text) * 100)
    if paise < 0 and not allow_negative:
        raise InvalidAmount(f"the amount must not be negative: {text!r}")
    if abs(paise) > MAX_PAISE:
        raise InvalidAmount(f"the amount is too large: {text!r}")
    return paise


def format_rupees(paise: int) -> str:
    """`123450` -> `"1234.50"`."""
    sign = "-" if paise < 0 else ""
    rupees, rest = divmod(abs(paise), 100)
    return f"{sign}{rupees}.{rest:02d}"


def indian_number(number: int) -> str:
    """A whole number grouped the Indian way, three digits and then twos: `1234567` -> `12,34,567`."""
    sign, digits = ("-" if number < 0 else ""), str(abs(number))
    head, groups = digits[:-3], [digits[-3:]]
    while head:
        groups.insert(0, head[-2:])
        head = head[:-2]
    return sign + ",".join(groups)


def indian_rupees(paise: int) -> str:
    """Paise as rupees for people: `12345650` -> `₹1,23,456.50`."""
    rupees, _, rest = format_rupees(abs(paise)).partition(".")
    return f"{'-' if paise < 0 else ''}₹{indian_number(int(rupees))}.{rest}"


def round_paise(amount: Decimal) -> int:
    """The one rounding rule of the platform: to the nearest paisa, halves to even."""
    return int(amount.quantize(Decimal(1), rounding=ROUND_HALF_EVEN))


def paise_from_broker(value: float | int | str | Decimal) -> int:
    """Paise of a rupee price or amount in a broker's JSON; raises InvalidAmount for NaN, infinities and other text."""
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        raise InvalidAmount(f"not a number: {value!r}") from None
    if not amount.is_finite():
        raise InvalidAmount(f"not a finite number: {value!r}")
    return round_paise(amount * 100)


def rupees_decimal(paise: int) -> Decimal:
    """Rupees with two decimals, for a broker's request."""
    return Decimal(paise).scaleb(-2)


def split_by_largest_remainder(
    total: int, weights: Sequence[int], tie_break: Sequence[Hashable] | None = None
) -> list[int]:
    """Split a non-negative whole `total` in proportion to `weights`, exactly.

    Everyone gets the floor of the exact share; what is left goes one unit each to the largest remainders, ties to the
    smaller `tie_break` (default: position). Weights are non-negative and not all zero unless `total` is 0.
    """
    members = Counter(weights)
    if total < 0 or any(weight < 0 for weight in members):
        raise ValueError("total and weights must not be negative")
    weight_sum = sum(weight * count for weight, count in members.items())
    if weight_sum == 0:
        if total:
            raise ValueError("nothing to split by: all weights are zero")
        return [0] * len(weights)
    floors = {weight: total * weight // weight_sum for weight in members}
    remainders = {weight: total * weight % weight_sum for weight in members}
    left = total - sum(floors[weight] * count for weight, count in members.items())
    whole, level, free = first_in_line(remainders, members, left)
    for weight in whole:
        floors[weight] += 1
    shares = list(map(floors.__getitem__, weights))
    ties: Sequence[Any] = tie_break if tie_break is not None else range(len(weights))
    for index in first_of(level, weights, free, ties):
        shares[index] += 1
    return shares


def first_in_line(values: Mapping[K, int], members: Mapping[K, int], count: int) -> tuple[set[K], set[K], int]:
    """Who is among the `count` largest when equals stand together in classes.

    `values` and `members` give each class's value and size. Answers the classes that are in as a whole, those of equal
    value that the cut goes through, and how many of their members are in. Work grows with the classes, not with their members.
    """
    whole: set[K] = set()
    for _, same in groupby(sorted(values, key=values.__getitem__, reverse=True), key=values.__getitem__):
        level = set(same)
        size = sum(members[one] for one in level)
        if size > count:
            return whole, level, count
        whole |= level
        count -= size
    return whole, set(), 0


def first_of(level: AbstractSet[K], classes: Sequence[K], count: int, ties: Sequence[Any]) -> list[int]:
    """Positions in `classes` of the `count` members of `level` with the smallest tie keys."""
    if not count:
        return []
    return sorted(compress(range(len(classes)), map(level.__contains__, classes)), key=ties.__getitem__)[:count]


def _rupees_in(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, str):
        raise InvalidAmount('an amount is a decimal string of rupees such as "1234.50"')
    return parse_rupees(value)


def _signed_rupees_in(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise InvalidAmount('an amount is a decimal string of rupees such as "1234.50"')
    return parse_rupees(value, allow_negative=True)


_SCHEMA = {"type": "string", "pattern": r"^\d{1,15}(\.\d{1,2})?$", "examples": ["1234.50"]}
_SIGNED_SCHEMA = {"type": "string", "pattern": r"^-?\d{1,15}(\.\d{1,2})?$", "examples": ["-1234.50"]}

Rupees = Annotated[
    int,
    BeforeValidator(_rupees_in),
    PlainSerializer(format_rupees, return_type=str),
    WithJsonSchema(_SCHEMA),
]
"""Request field: rupees as a decimal string on the wire, integer paise inside; never negative."""

SignedRupees = Annotated[
    int,
    BeforeValidator(_signed_rupees_in),
    PlainSerializer(format_rupees, return_type=str),
    WithJsonSchema(_SIGNED_SCHEMA),
]
"""Answer field: built from integer paise, rendered as a rupee string; may be negative."""
