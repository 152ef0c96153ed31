"""Bodies of requests and answers. Instants are shown in Indian time; extra fields are refused."""

from datetime import datetime, time
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, StringConstraints, model_validator

from common.clock import to_ist
from common.money import Rupees, SignedRupees
from common.text import Printable
from notification_service.addresses import ADDRESS_LENGTH_MAX
from notification_service.delivery_states import Status
from notification_service.kinds import CHOSEN_KINDS, DIGEST_KINDS, Channel, Kind
from notification_service.models import ContactPoint, Delivery, PriceAlert
from notification_service.preferences import Preferences
from notification_service.quiet import DIGEST_AT, QuietHours

IstDateTime = Annotated[datetime, PlainSerializer(lambda instant: to_ist(instant).isoformat(), return_type=str)]
COOLDOWN_MIN_S, COOLDOWN_MAX_S = 60, 7 * 24 * 3600


class Asked(BaseModel):
    """Base of request bodies."""

    model_config = ConfigDict(extra="forbid")


class Shown(BaseModel):
    """Base of answers that are made from rows."""

    model_config = ConfigDict(from_attributes=True)


# --- the inbox ----------------------------------------------------------------------------------------------------


class NotificationView(Shown):
    """One notification as its user sees it."""

    notification_id: UUID
    kind: Kind
    title: str
    text: str
    subject: dict[str, str]
    """Ids of what it is about: order_id, portfolio_id, transfer_id, basket_order_id, alert_id, report_id, ..."""
    occurred_at: IstDateTime
    read_at: IstDateTime | None


class DeliveryState(Shown):
    """How far a notification has come through one channel."""

    channel: Channel
    status: Status
    due_at: IstDateTime
    sent_at: IstDateTime | None
    attempts: int
    error_code: str | None


class NotificationDetail(NotificationView):
    """A notification with its way through the other channels."""

    deliveries: list[DeliveryState]


class NotificationPage(Shown):
    """Newest first; ask for the rest with `cursor=<next_cursor>`."""

    items: list[NotificationView]
    next_cursor: UUID | None


class UnreadCount(BaseModel):
    """How many notifications wait to be read."""

    unread: int


class MarkedRead(BaseModel):
    """How many notifications became read."""

    marked: int


# --- preferences ----------------------------------------------------------------------------------------------------


def _to_the_minute(value: time) -> time:
    if value.tzinfo is not None or value.second or value.microsecond:
        raise ValueError("a time of day in India, to the minute: 22:30")
    return value


ClockTime = Annotated[
    time, AfterValidator(_to_the_minute), PlainSerializer(lambda at: at.strftime("%H:%M"), return_type=str)
]


class QuietHoursBody(Asked):
    """Hours of the Indian day without messages; over midnight when `start` is later than `end`."""

    start: ClockTime
    end: ClockTime

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.start == self.end:
            raise ValueError("the end must differ from the start")
        return self


class DigestBody(Asked):
    """Kinds that come once a day together instead of one by one, and when."""

    at: ClockTime = DIGEST_AT
    kinds: list[Kind] = Field(default_factory=list, max_length=len(Kind))

    @model_validator(mode="after")
    def _may_wait(self) -> Self:
        if wrong := sorted(set(self.kinds) - set(DIGEST_KINDS)):
            raise ValueError(f"these cannot wait for a daily summary: {', '.join(wrong)}")
        return self


class PreferencesBody(Asked):
    """All choices of a user; what is left out gets its default."""

    channels: dict[Kind, dict[Channel, bool]] = Field(default_factory=dict)
    quiet_hours: QuietHoursBody | None = None
    digest: DigestBody = Field(default_factory=DigestBody)

    @model_validator(mode="after")
    def _may_be_chosen(self) -> Self:
        if wrong := sorted(set(self.channels) - set(CHOSEN_KINDS)):
            raise ValueError(f"these are not a matter of preferences: {', '.join(wrong)}")
        return self

    def chosen(self) -> Preferences:
        """As the rest of the room knows them."""
        quiet = QuietHours(self.quiet_hours.start, self.quiet_hours.end) if self.quiet_hours else None
        return Preferences(self.channels, quiet, self.digest.at, frozenset(self.digest.kinds))


class PreferencesView(BaseModel):
    """Every choice there is, as it stands."""

    channels: dict[Kind, dict[Channel, bool]]
    quiet_hours: QuietHoursBody | None
    digest: DigestBody

    @classmethod
    def of(cls, chosen: Preferences) -> Self:
        """From the room's form."""
        quiet = QuietHoursBody(start=chosen.quiet.start, end=chosen.quiet.end) if chosen.quiet else None
        digest = DigestBody(at=chosen.digest_at, kinds=sorted(chosen.digest_kinds & set(DIGEST_KINDS)))
        return cls(channels=chosen.table(), quiet_hours=quiet, digest=digest)


# --- contact points -------------------------------------------------------------------------------------------------


class ContactPointBody(Asked):
    """A phone (`sms`), a device token (`push`), a browser's PushSubscription as JSON text (`web_push`), or an Apprise
    address of a chat (`chat`): `tgram://bottoken/chat_id`, `slack://A/B/C`, `discord://id/token`, `jsons://host/path`."""

    channel: Literal["sms", "push", "web_push", "chat"]
    address: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=ADDRESS_LENGTH_MAX), Printable
    ]
    label: Annotated[str, StringConstraints(strip_whitespace=True, max_length=60), Printable] = ""


class ContactPointView(BaseModel):
    """A contact point; its address is never shown again in full."""

    contact_id: UUID
    channel: Channel
    label: str
    address: str
    """Masked."""
    verified: bool
    created_at: IstDateTime

    @classmethod
    def of(cls, point: ContactPoint) -> Self:
        """From a row."""
        return cls(
            contact_id=point.contact_id,
            channel=Channel(point.channel),
            label=point.label,
            address=point.masked,
            verified=point.verified_at is not None,
            created_at=point.created_at,
        )


class ContactPointList(BaseModel):
    """The user's contact points, oldest first."""

    items: list[ContactPointView]
    web_push_key: str | None
    """What a browser subscribes with (`applicationServerKey`); none where web push is not set up."""


class CodeBody(Asked):
    """The code that came to the contact point."""

    code: Annotated[str, StringConstraints(pattern=r"^\d{6}$")]


# --- price alerts ---------------------------------------------------------------------------------------------------

Symbol = Annotated[str, StringConstraints(strip_whitespace=True, to_upper=True, pattern=r"^[A-Za-z0-9&_.-]{1,50}$")]


class AlertBody(Asked):
    """Tell me when the last price is at this level or beyond it."""

    exchange: Literal["NSE", "BSE"] = "NSE"
    tradingsymbol: Symbol
    direction: Literal["above", "below"]
    price: Rupees
    repeats: bool = False
    cooldown_s: int = Field(default=3600, ge=COOLDOWN_MIN_S, le=COOLDOWN_MAX_S)
    """Of a repeating alert: how long it is silent after it has fired."""

    @model_validator(mode="after")
    def _a_price(self) -> Self:
        if self.price == 0:
            raise ValueError("the price must be more than nothing")
        return self


class AlertView(BaseModel):
    """A price alert."""

    alert_id: UUID
    exchange: str
    tradingsymbol: str
    direction: str
    price: SignedRupees
    repeats: bool
    cooldown_s: int
    waiting: bool
    firings: int
    fired_at: IstDateTime | None
    created_at: IstDateTime

    @classmethod
    def of(cls, alert: PriceAlert) -> Self:
        """From a row."""
        return cls(
            alert_id=alert.alert_id,
            exchange=alert.exchange,
            tradingsymbol=alert.tradingsymbol,
            direction=alert.direction,
            price=alert.level_paise,
            repeats=alert.repeats,
            cooldown_s=alert.cooldown_s,
            waiting=alert.ended_at is None,
            firings=alert.firings,
            fired_at=alert.fired_at,
            created_at=alert.created_at,
        )


class AlertPage(BaseModel):
    """Newest first; ask for the rest with `cursor=<next_cursor>`."""

    items: list[AlertView]
    next_cursor: UUID | None


# --- for operators --------------------------------------------------------------------------------------------------


class DeliveryView(Shown):
    """A delivery as operators see it: no address, no text."""

    delivery_id: UUID
    notification_id: UUID
    user_id: UUID
    kind: str
    channel: Channel
    status: Status
    digest: bool
    attempts: int
    due_at: IstDateTime
    give_up_at: IstDateTime
    provider_id: str | None
    error_code: str | None
    error: str | None
    created_at: IstDateTime
    sent_at: IstDateTime | None
    ended_at: IstDateTime | None


class AttemptView(Shown):
    """One call to a provider."""

    number: int
    started_at: IstDateTime
    ended_at: IstDateTime | None
    outcome: str | None
    """`sent`, `refused`, `busy`, `unreachable` or `unknown`; none while it is under way."""
    provider_id: str | None
    error_code: str | None
    error: str | None


class DeliveryDetail(DeliveryView):
    """A delivery with its attempts, oldest first."""

    history: list[AttemptView]

    @classmethod
    def of(cls, delivery: Delivery, attempts: list[AttemptView]) -> Self:
        """From rows."""
        return cls(**DeliveryView.model_validate(delivery).model_dump(), history=attempts)


class DeliveryPage(BaseModel):
    """Newest first; ask for the rest with `cursor=<next_cursor>`."""

    items: list[DeliveryView]
    next_cursor: UUID | None


class ProviderView(Shown):
    """A provider that has failed lately."""

    provider: str
    failures: int
    open_until: IstDateTime | None
    error_code: str | None
    changed_at: IstDateTime


class ChannelCount(BaseModel):
    """Deliveries of the last day in one state."""

    channel: Channel
    status: Status
    deliveries: int


class ChannelReport(BaseModel):
    """How the channels do."""

    last_day: list[ChannelCount]
    failing: list[ProviderView]


class TemplateName(BaseModel):
    """A kind of message that has templates."""

    kind: Kind
    group: str
    at_any_hour: bool
    fixed: bool
    defaults: list[Channel]


class TemplateList(BaseModel):
    """All kinds of messages."""

    items: list[TemplateName]


class Preview(BaseModel):
    """What a kind of message looks like, made from sample data."""

    kind: Kind
    title: str
    text: str
    mail_subject: str
    mail_text: str
    mail_html: str


class CallbackAnswer(BaseModel):
    """What a provider's callback is answered."""

    status: Literal["ok"] = "ok"
