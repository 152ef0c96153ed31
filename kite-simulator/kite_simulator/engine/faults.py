"""Faults the simulator can commit: their kinds, their rates, and the presets (execution design 4.2).

A rate is the probability that one opportunity (a place call, a read, a trade, ...) meets the fault. All are 0 unless
asked for. Everything here is data; `dice.py` draws, and the desks, the wire, the ticker and the postbacks act.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError


class FaultKind(StrEnum):
    """One kind of fault; the value is the name of its rate."""

    # A write meets at most one of these. The first group was not taken by the broker, the second was.
    CONNECTION_REFUSED = "connection_refused"
    REQUEST_LOST = "request_lost"
    RESET_BEFORE_BODY = "reset_before_body"
    BAD_GATEWAY = "bad_gateway"
    TIMED_OUT_400 = "timed_out_400"
    TOO_MANY_REQUESTS = "too_many_requests"
    REFUSED_AT_FRONT = "refused_at_front"
    RESPONSE_LOST = "response_lost"
    RESET_AFTER_BODY = "reset_after_body"
    BAD_GATEWAY_ACCEPTED = "bad_gateway_accepted"
    TIMED_OUT_400_ACCEPTED = "timed_out_400_accepted"
    ACCEPT_DELAYED = "accept_delayed"
    GHOST = "ghost"
    ORDER_ID_MISSING = "order_id_missing"
    CONTENT_TYPE_MISSING = "content_type_missing"
    # Reads.
    READ_UNAVAILABLE = "read_unavailable"
    READ_GARBLED = "read_garbled"
    READ_RESET = "read_reset"
    READ_LOST = "read_lost"
    BOOK_STALE = "book_stale"
    BOOK_TRUNCATED = "book_truncated"
    TRADES_LAG = "trades_lag"
    # The life of an order and of the account.
    PARTIAL_FILL = "partial_fill"
    ORDER_STUCK = "order_stuck"
    CANCEL_THEN_FILLED = "cancel_then_filled"
    CANCEL_REFUSED = "cancel_refused"
    FOREIGN_ORDER = "foreign_order"
    TRADE_CORRECTED = "trade_corrected"
    TOKEN_KILLED = "token_killed"  # noqa: S105 - the name of a fault
    # Messages nobody may trust.
    UPDATE_AFTER_COMPLETE = "update_after_complete"
    POSTBACK_DUPLICATED = "postback_duplicated"
    POSTBACK_REORDERED = "postback_reordered"
    POSTBACK_DROPPED = "postback_dropped"
    POSTBACK_DELAYED = "postback_delayed"
    POSTBACK_FORGED = "postback_forged"
    WEBSOCKET_GAP = "websocket_gap"


def _ascending(span: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= span[0] <= span[1]:
        raise ValueError("a span is two seconds, the smaller first")
    return span


Rate = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[tuple[float, float], AfterValidator(_ascending)]


class FaultRates(BaseModel):
    """How often each kind happens, and how large it is. Spans are seconds of the engine's clock, drawn evenly."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    connection_refused: Rate = 0
    request_lost: Rate = 0
    reset_before_body: Rate = 0
    bad_gateway: Rate = 0
    timed_out_400: Rate = 0
    too_many_requests: Rate = 0
    refused_at_front: Rate = 0
    response_lost: Rate = 0
    reset_after_body: Rate = 0
    bad_gateway_accepted: Rate = 0
    timed_out_400_accepted: Rate = 0
    accept_delayed: Rate = 0
    ghost: Rate = 0
    order_id_missing: Rate = 0
    content_type_missing: Rate = 0
    read_unavailable: Rate = 0
    read_garbled: Rate = 0
    read_reset: Rate = 0
    read_lost: Rate = 0
    book_stale: Rate = 0
    book_truncated: Rate = 0
    trades_lag: Rate = 0
    partial_fill: Rate = 0
    order_stuck: Rate = 0
    cancel_then_filled: Rate = 0
    cancel_refused: Rate = 0
    foreign_order: Rate = 0
    trade_corrected: Rate = 0
    token_killed: Rate = 0
    update_after_complete: Rate = 0
    postback_duplicated: Rate = 0
    postback_reordered: Rate = 0
    postback_dropped: Rate = 0
    postback_delayed: Rate = 0
    postback_forged: Rate = 0
    websocket_gap: Rate = 0

    accept_delay_s: Seconds = (1, 120)
    """How late an order arrives after `accept_delayed` and `timed_out_400_accepted`."""
    ghost_delay_s: Seconds = (200, 600)
    """How late after `ghost`: longer than a careful client waits before it declares an order lost."""
    stuck_s: Seconds = (90, 90)
    book_stale_s: Seconds = (0, 5)
    trades_lag_s: Seconds = (0, 30)
    cancel_race_s: Seconds = (0.1, 5)
    """From the acknowledged cancel to the fill."""
    correction_s: Seconds = (1, 60)
    """From the trade to its correction."""
    postback_reorder_s: Seconds = (0.5, 5)
    """How long a postback is held back so that later ones overtake it."""
    postback_delay_s: Seconds = (86_400, 86_400)
    websocket_gap_s: Seconds = (5, 60)
    partial_fill_pieces_max: Annotated[int, Field(ge=1, le=50)] = 8
    postback_copies_max: Annotated[int, Field(ge=1, le=20)] = 5

    def rate_of(self, kind: FaultKind) -> float:
        """The probability of one kind."""
        rate: float = getattr(self, kind.value)
        return rate

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Self:
        """Rates from plain data; raises ValueError naming what is wrong."""
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error


OFF = FaultRates()
STANDARD = FaultRates(
    # Named with a rate in the design.
    response_lost=0.03,
    accept_delayed=0.01,
    timed_out_400_accepted=0.005,
    bad_gateway=0.005,
    bad_gateway_accepted=0.005,
    reset_before_body=0.005,
    reset_after_body=0.005,
    content_type_missing=0.002,
    partial_fill=0.40,
    update_after_complete=0.02,
    cancel_then_filled=0.05,
    cancel_refused=0.03,
    book_stale=0.10,
    book_truncated=0.005,
    trades_lag=0.10,
    foreign_order=0.001,
    trade_corrected=0.0005,
    postback_duplicated=0.30,
    postback_reordered=0.20,
    postback_dropped=0.20,
    postback_delayed=0.001,
    postback_forged=0.01,
    # Named there without one.
    connection_refused=0.005,
    request_lost=0.01,
    timed_out_400=0.005,
    too_many_requests=0.005,
    refused_at_front=0.005,
    order_id_missing=0.002,
    read_unavailable=0.005,
    read_garbled=0.005,
    read_reset=0.005,
    read_lost=0.002,
    order_stuck=0.005,
    token_killed=0.0001,
    websocket_gap=0.001,
)
PRESETS: Mapping[str, FaultRates] = {"off": OFF, "standard": STANDARD}


def preset(name: str) -> FaultRates:
    """A preset by name; raises ValueError for one that does not exist."""
    if name not in PRESETS:
        raise ValueError(f"no such preset: {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]


def read_faults(text: str) -> FaultRates:
    """The setting: a preset's name or a JSON object of rates; raises ValueError for anything else."""
    if not text.lstrip().startswith("{"):
        return preset(text.strip())
    try:
        given = TypeAdapter(dict[str, Any]).validate_json(text)
    except ValidationError as error:
        raise ValueError("not a JSON object of rates") from error
    return FaultRates.read(given)
