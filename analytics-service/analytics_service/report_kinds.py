"""Which reports there are, in which forms, and what a user has to say to get one. Pure."""

from datetime import date
from typing import Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from analytics_service.capital_gains import InvalidTaxYear, tax_year
from common.clock import DayInput

Kind = Literal["portfolio", "capital_gains", "transactions", "holdings"]
Format = Literal["html", "pdf", "csv", "xlsx"]
FORMATS: dict[Kind, tuple[Format, ...]] = {
    "portfolio": ("html", "pdf"),
    "capital_gains": ("html", "pdf", "csv", "xlsx"),
    "transactions": ("csv", "xlsx"),
    "holdings": ("csv", "xlsx"),
}
MEDIA_TYPES: dict[Format, str] = {
    "html": "text/html; charset=utf-8",
    "pdf": "application/pdf",
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
TITLES: dict[Kind, str] = {
    "portfolio": "Portfolio report",
    "capital_gains": "Capital gains",
    "transactions": "Transactions",
    "holdings": "Holdings",
}


class ReportIn(BaseModel):
    """A report to make. `tax_year` for capital gains alone; `from` and `to` for the other kinds but holdings."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    kind: Kind
    format: Format
    portfolio_id: UUID | None = None
    tax_year: str | None = Field(default=None, max_length=10, examples=["2025-26"])
    first: DayInput | None = Field(default=None, alias="from")
    last: DayInput | None = Field(default=None, alias="to")

    @field_validator("tax_year")
    @classmethod
    def _is_a_tax_year(cls, given: str | None) -> str | None:
        if given is not None:
            try:
                tax_year(given)
            except InvalidTaxYear as error:
                raise ValueError(str(error)) from None
        return given

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.format not in FORMATS[self.kind]:
            raise ValueError(f"{self.kind} comes as {' or '.join(FORMATS[self.kind])}")
        if (self.tax_year is not None) != (self.kind == "capital_gains"):
            raise ValueError("tax_year belongs to capital_gains, which needs it")
        if self.kind in ("capital_gains", "holdings") and (self.first or self.last):
            raise ValueError(f"{self.kind} takes no from and to")
        if self.first and self.last and self.first > self.last:
            raise ValueError("from must not be after to")
        return self

    @property
    def title(self) -> str:
        """What it is, in words for its user."""
        return f"{TITLES[self.kind]} {self.tax_year}" if self.tax_year else TITLES[self.kind]

    @property
    def period(self) -> tuple[date | None, date | None]:
        """The first and last day it is about, as far as they were given."""
        if self.tax_year is not None:
            year = tax_year(self.tax_year)
            return year.first, year.last
        return self.first, self.last

    @property
    def file_name(self) -> str:
        """The name a browser saves it under."""
        parts = [self.kind, self.tax_year or "", *(day.isoformat() for day in (self.first, self.last) if day)]
        return "-".join(part for part in parts if part).replace("_", "-") + f".{self.format}"
