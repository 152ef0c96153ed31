"""Request and answer bodies of smallcases. Rupees are decimal strings here, instants Indian time."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, StringConstraints

from common.clock import to_ist
from common.market_data import Instrument, Key, Price
from common.money import BPS_ONE, SignedRupees
from common.text import PrintableLines
from smallcase_service.composition import CONSTITUENTS_MAX, Constituent, Valuation
from smallcase_service.models import Smallcase, SmallcaseVersion
from smallcase_service.service import Draft, Page, Snapshot, Visibility

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


class SmallcaseIn(Body):
    """A smallcase to be made; the weights sum to exactly 10,000. Publishing it needs the role admin."""

    name: Name
    description: Description = ""
    visibility: Visibility = "private"
    constituents: Annotated[list[ConstituentIn], Field(min_length=1, max_length=CONSTITUENTS_MAX)]

    def draft(self) -> Draft:
        """What the use cases take; raises DuplicateConstituent or WeightsNotWhole."""
        return Draft(
            name=self.name,
            description=self.description,
            visibility=self.visibility,
            constituents=[
                Constituent(given.exchange, given.tradingsymbol, given.weight_bps) for given in self.constituents
            ],
        )


class SmallcaseChange(SmallcaseIn):
    """The whole smallcase as it shall be from now on, the version the change is based on, and why."""

    version: int = Field(strict=True, ge=1)
    reason: Reason


class ConstituentOut(BaseModel):
    """One share and its wanted weight."""

    exchange: str
    tradingsymbol: str
    weight_bps: int


class SmallcaseSummary(BaseModel):
    """A smallcase in a list."""

    smallcase_id: UUID
    version: int
    name: str
    description: str
    visibility: Visibility
    is_own: bool
    created_at: IstDateTime
    changed_at: IstDateTime

    @classmethod
    def of(cls, smallcase: Smallcase, content: SmallcaseVersion, user_id: UUID) -> Self:
        """As this user sees it."""
        return cls.model_validate(_summary(smallcase, content, user_id))


class SmallcasePage(BaseModel):
    """Newest first; ask for the rest with `cursor=<next_cursor>`."""

    items: list[SmallcaseSummary]
    next_cursor: UUID | None

    @classmethod
    def of(cls, page: Page, user_id: UUID) -> Self:
        """As this user sees it."""
        items = [SmallcaseSummary.of(smallcase, content, user_id) for smallcase, content in page.items]
        return cls(items=items, next_cursor=page.next_cursor)


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
    """Why the smallcase cannot be bought now."""

    code: str
    message: str
    exchange: str | None
    tradingsymbol: str | None


class Validation(BaseModel):
    """Whether the smallcase can be bought now."""

    valid: bool
    problems: list[ProblemOut]


class Composition(SmallcaseSummary):
    """A smallcase at live prices. The minimum investment changes with every price; null while a price is missing."""

    constituents: list[LiveConstituent]
    minimum_investment: SignedRupees | None
    validation: Validation

    @classmethod
    def of_valuation(
        cls,
        snapshot: Snapshot,
        user_id: UUID,
        instruments: Mapping[Key, Instrument],
        prices: Mapping[Key, Price],
        valuation: Valuation,
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
                    name=instrument.name if instrument else None,
                    price=price.price_paise if price else None,
                    price_at=price.at if price else None,
                    minimum_quantity=minimum.quantities[position] if minimum else None,
                    minimum_weight_bps=minimum.weights_bps[position] if minimum else None,
                )
            )
        problems = [
            ProblemOut(
                code=problem.code,
                message=problem.message,
                exchange=problem.key[0] if problem.key else None,
                tradingsymbol=problem.key[1] if problem.key else None,
            )
            for problem in valuation.problems
        ]
        return cls.model_validate(
            {
                **_summary(snapshot.smallcase, snapshot.content, user_id),
                "constituents": live,
                "minimum_investment": minimum.amount_paise if minimum else None,
                "validation": Validation(valid=valuation.valid, problems=problems),
            }
        )


def _summary(smallcase: Smallcase, content: SmallcaseVersion, user_id: UUID) -> dict[str, object]:
    return {
        "smallcase_id": smallcase.smallcase_id,
        "version": content.version,
        "name": content.name,
        "description": content.description,
        "visibility": content.visibility,
        "is_own": smallcase.owner_id == user_id,
        "created_at": smallcase.created_at,
        "changed_at": content.created_at,
    }


def _constituents(constituents: Sequence[Constituent]) -> list[ConstituentOut]:
    return [
        ConstituentOut(exchange=one.exchange, tradingsymbol=one.tradingsymbol, weight_bps=one.weight_bps)
        for one in constituents
    ]
