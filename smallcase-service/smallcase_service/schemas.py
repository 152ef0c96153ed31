"""Request and answer bodies of smallcases. Rupees are decimal strings here, instants Indian time."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, StringConstraints

from common.clock import to_ist
from common.market_data import Instrument, Key, Price
from common.money import BPS_ONE, Rupees, SignedRupees
from common.text import PrintableLines
from smallcase_service.composition import CONSTITUENTS_MAX, Constituent, Problem, Valuation
from smallcase_service.expected import CAVEAT, METHOD, Expected
from smallcase_service.models import Smallcase, SmallcaseVersion
from smallcase_service.schemas_attributes import AttributesIn, AttributesOut, ShareRationale, WeightingIn
from smallcase_service.service import Snapshot, Visibility

VERSION_MAX = 2**31 - 1
NAME_LENGTH_MAX = 100
DESCRIPTION_LENGTH_MAX = 2_000
REASON_LENGTH_MAX = 500
SEARCH_LENGTH_MAX = 100


def _text(length_min: int, length_max: int) -> StringConstraints:
    return StringConstraints(strip_whitespace=True, min_length=length_min, max_length=length_max)


IstDateTime = Annotated[datetime, PlainSerializer(lambda instant: to_ist(instant).isoformat(), return_type=str)]
Name = Annotated[str, _text(1, NAME_LENGTH_MAX), PrintableLines]
Description = Annotated[str, _text(0, DESCRIPTION_LENGTH_MAX), PrintableLines]
Reason = Annotated[str, _text(1, REASON_LENGTH_MAX), PrintableLines]
Symbol = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[A-Z0-9&_\-]+$")]
Exchange = Annotated[str, Field(pattern=r"^[A-Z]{2,6}$")]
WeightBps = Annotated[int, Field(strict=True, ge=1, le=BPS_ONE, description="Basis points; 10,000 are 100 %.")]


class Body(BaseModel):
    """A request body: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ConstituentIn(Body):
    """One share and its weight."""

    exchange: Exchange = "NSE"
    tradingsymbol: Symbol
    weight_bps: WeightBps


class ShareIn(Body):
    """One share of a smallcase: with its weight in the scheme `custom`, with its market value in `market_cap`."""

    exchange: Exchange = "NSE"
    tradingsymbol: Symbol
    weight_bps: WeightBps | None = None
    market_value: Annotated[Rupees | None, Field(description="Free-float market value in rupees.")] = None
    rationale: ShareRationale = ""


class SmallcaseIn(Body):
    """A smallcase to be made. Publishing it needs the role admin. Own weights sum to exactly 10,000."""

    name: Name
    description: Description = ""
    visibility: Visibility = "private"
    attributes: AttributesIn = AttributesIn()
    weighting: WeightingIn = WeightingIn()
    constituents: Annotated[list[ShareIn], Field(min_length=1, max_length=CONSTITUENTS_MAX)]


class SmallcaseChange(SmallcaseIn):
    """The whole smallcase as it shall be from now on, the version the change is based on, and why."""

    version: int = Field(strict=True, ge=1, le=VERSION_MAX)
    reason: Reason


class ConstituentOut(BaseModel):
    """One share and its wanted weight."""

    exchange: str
    tradingsymbol: str
    weight_bps: int
    rationale: str


class SmallcaseSummary(BaseModel):
    """A smallcase in a list."""

    smallcase_id: UUID
    version: int
    name: str
    description: str
    visibility: Visibility
    attributes: AttributesOut
    is_own: bool
    created_at: IstDateTime
    changed_at: IstDateTime


class SmallcaseCard(SmallcaseSummary):
    """A smallcase in a list with its size, its minimum at live prices and the last year's return of its composition.

    The return is that of today's composition over the last year (a backtest); both figures are null while unknown.
    """

    shares: int
    minimum_investment: SignedRupees | None
    return_1y: float | None

    @classmethod
    def of_figures(cls, snapshot: Snapshot, user_id: UUID, minimum_paise: int | None, return_1y: float | None) -> Self:
        """As this user sees it."""
        return cls.model_validate(
            {
                **_summary(snapshot.smallcase, snapshot.content, user_id),
                "shares": len(snapshot.constituents),
                "minimum_investment": minimum_paise,
                "return_1y": return_1y,
            }
        )


class SmallcasePage(BaseModel):
    """In the order asked for; ask for the rest with `cursor=<next_cursor>`.

    `is_partial`: an order or filter by a computed figure looks at the newest matches only, and there are more.
    """

    items: list[SmallcaseCard]
    next_cursor: UUID | None
    is_partial: bool = False


class RegionOut(BaseModel):
    """Published smallcases of one region, newest first."""

    region: str
    smallcases: list[SmallcaseCard]


class RegionsOut(BaseModel):
    """Regions by name. The region is what the maker names; shares of Indian exchanges only can be in it."""

    items: list[RegionOut]
    is_partial: bool


class ShowIn(Body):
    """Publish or withdraw the version that is the newest one, and why."""

    version: int = Field(strict=True, ge=1, le=VERSION_MAX)
    reason: Reason


class SmallcaseOut(SmallcaseSummary):
    """A smallcase and what it is made of."""

    constituents: list[ConstituentOut]

    @classmethod
    def of_snapshot(cls, snapshot: Snapshot, user_id: UUID) -> Self:
        """As this user sees it."""
        return cls.model_validate(
            {
                **_summary(snapshot.smallcase, snapshot.content, user_id),
                "constituents": _constituents(snapshot.constituents),
            }
        )


class VersionOut(BaseModel):
    """One version: what it was, who made it and why."""

    version: int
    name: str
    description: str
    visibility: Visibility
    attributes: AttributesOut
    reason: str
    changed_by: UUID
    changed_at: IstDateTime
    constituents: list[ConstituentOut]

    @classmethod
    def of(cls, snapshot: Snapshot) -> Self:
        """From the stored version."""
        content = snapshot.content
        return cls(
            version=content.version,
            name=content.name,
            description=content.description,
            visibility=content.visibility,
            attributes=AttributesOut.of(content),
            reason=content.reason,
            changed_by=content.changed_by,
            changed_at=content.created_at,
            constituents=_constituents(snapshot.constituents),
        )


class VersionList(BaseModel):
    """Newest first; older ones with `before=<version of the last>`."""

    items: list[VersionOut]


class LiveConstituent(ConstituentOut):
    """One share at the market; in the smallest basket it has `minimum_quantity` units and `minimum_weight_bps`."""

    name: str | None
    price: SignedRupees | None
    price_at: IstDateTime | None
    minimum_quantity: int | None
    minimum_weight_bps: int | None


class ProblemOut(BaseModel):
    """Why the smallcase cannot be bought now, or what to know before."""

    code: str
    message: str
    exchange: str | None
    tradingsymbol: str | None

    @classmethod
    def of(cls, problem: Problem) -> Self:
        """From what was found."""
        exchange, symbol = problem.key or (None, None)
        return cls(code=problem.code, message=problem.message, exchange=exchange, tradingsymbol=symbol)


class Validation(BaseModel):
    """Whether the smallcase can be bought now; warnings do not hinder it."""

    valid: bool
    problems: list[ProblemOut]
    warnings: list[ProblemOut]


class ExpectedOut(BaseModel):
    """What the past of today's composition would let one expect of a year: fractions, 0.1 is 10 %.

    `low` and `high` are one standard deviation away from the mean. Null figures: too little is known of its shares.
    """

    model_config = ConfigDict(from_attributes=True)

    mean: float
    low: float
    high: float
    volatility: float
    first: date
    last: date
    values: int
    method: str = METHOD
    caveat: str = CAVEAT


class Composition(SmallcaseSummary):
    """A smallcase at live prices. The minimum investment changes with every price; null while a price is missing."""

    constituents: list[LiveConstituent]
    minimum_investment: SignedRupees | None
    expected_returns: ExpectedOut | None
    validation: Validation

    @classmethod
    def of_valuation(
        cls,
        snapshot: Snapshot,
        user_id: UUID,
        instruments: Mapping[Key, Instrument],
        prices: Mapping[Key, Price],
        valuation: Valuation,
        *,
        warnings: Sequence[Problem] = (),
        expected: Expected | None = None,
    ) -> Self:
        """As this user sees it."""
        minimum = valuation.minimum
        live = []
        for position, constituent in enumerate(snapshot.constituents):
            instrument, price = instruments.get(constituent.key), prices.get(constituent.key)
            live.append(
                LiveConstituent(
                    exchange=constituent.exchange,
                    tradingsymbol=constituent.tradingsymbol,
                    weight_bps=constituent.weight_bps,
                    rationale=constituent.rationale,
                    name=instrument.name if instrument else None,
                    price=price.price_paise if price else None,
                    price_at=price.at if price else None,
                    minimum_quantity=minimum.quantities[position] if minimum else None,
                    minimum_weight_bps=minimum.weights_bps[position] if minimum else None,
                )
            )
        return cls.model_validate(
            {
                **_summary(snapshot.smallcase, snapshot.content, user_id),
                "constituents": live,
                "minimum_investment": minimum.amount_paise if minimum else None,
                "expected_returns": ExpectedOut.model_validate(expected) if expected else None,
                "validation": Validation(
                    valid=valuation.valid,
                    problems=[ProblemOut.of(problem) for problem in valuation.problems],
                    warnings=[ProblemOut.of(warning) for warning in warnings],
                ),
            }
        )


def _summary(smallcase: Smallcase, content: SmallcaseVersion, user_id: UUID) -> dict[str, object]:
    return {
        "smallcase_id": smallcase.smallcase_id,
        "version": content.version,
        "name": content.name,
        "description": content.description,
        "visibility": content.visibility,
        "attributes": AttributesOut.of(content),
        "is_own": smallcase.owner_id == user_id,
        "created_at": smallcase.created_at,
        "changed_at": content.created_at,
    }


def _constituents(constituents: Sequence[Constituent]) -> list[ConstituentOut]:
    return [
        ConstituentOut(
            exchange=one.exchange, tradingsymbol=one.tradingsymbol, weight_bps=one.weight_bps, rationale=one.rationale
        )
        for one in constituents
    ]
