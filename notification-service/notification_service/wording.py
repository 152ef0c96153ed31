"""Words from templates: title and text of a fact, and the text and HTML of a mail. Amounts in Indian notation.

One file a kind in `templates/words` holds what is said on every channel; `templates/mail.*` is what a mail puts around it.
Values are escaped in HTML and nowhere else. A value that a template needs and does not get is an error, not a gap.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from common.clock import to_ist
from common.money import indian_number, indian_rupees
from notification_service.kinds import RULES, Kind

_VERBS = {"BUY": ("buy", "Bought", "bought"), "SELL": ("sell", "Sold", "sold")}
_SPACES = re.compile(r"[ \t]+")


@dataclass(frozen=True)
class Words:
    """What is said, without any markup."""

    title: str
    text: str


@dataclass(frozen=True)
class Mail:
    """Subject and both bodies of a mail."""

    subject: str
    text: str
    html: str


def _ist(instant: str) -> str:
    return to_ist(datetime.fromisoformat(instant)).strftime("%d %b %Y, %H:%M IST")


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("notification_service"),
        autoescape=select_autoescape(enabled_extensions=("html.j2",), disabled_extensions=("txt.j2",), default=True),
        undefined=StrictUndefined,
        auto_reload=False,
    )
    environment.filters.update(
        rupees=indian_rupees,
        number=indian_number,
        ist=_ist,
        to_do=lambda side: _VERBS[side][0],
        done=lambda side: _VERBS[side][1],
        was_done=lambda side: _VERBS[side][2],
    )
    return environment


_TEMPLATES = _environment()


def words_of(kind: Kind, data: dict[str, Any]) -> Words:
    """Title and text of a fact; raises jinja2.UndefinedError when data are missing."""
    template = _TEMPLATES.get_template(f"words/{kind.value}.txt.j2")
    parts = ["".join(template.blocks[name](template.new_context(data))) for name in ("title", "text")]
    title, text = (_SPACES.sub(" ", part).strip() for part in parts)
    # A title becomes the subject of a mail: one line, whatever stood in the data.
    return Words(" ".join(title.split()), text)


def mail_of(
    kind: Kind,
    data: dict[str, Any],
    *,
    name: str | None,
    web_url: str,
    action: tuple[str, str] | None = None,
) -> Mail:
    """The mail about a fact. `action` is the label and address of its one button."""
    said = words_of(kind, data)
    label, url = action or (None, None)
    items = data["items"] if kind is Kind.DIGEST else []
    context = {
        "title": said.title,
        "text": said.text,
        "items": items,
        "more": data["total"] - len(items) if items else 0,
        "name": name,
        "action_label": label,
        "action_url": url,
        "web_url": web_url,
        "fixed": RULES[kind].fixed and kind is not Kind.DIGEST,
    }
    text, html = (_TEMPLATES.get_template(f"mail.{form}.j2").render(context) for form in ("txt", "html"))
    return Mail(said.title, text, html)


def page_of(name: str, **context: Any) -> str:
    """A page of the development inbox."""
    return _TEMPLATES.get_template(f"development/{name}.html.j2").render(context)
