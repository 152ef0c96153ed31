"""Development only: a page with the mails that did not leave this machine.

The room serves it on its own loopback address; the gateway has no route to it, and whoever does not sit at this machine
is refused.
"""

import ipaddress

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from common.clock import to_ist
from common.errors import Forbidden, NotFound
from notification_service import mail_files
from notification_service.dependencies import SettingsDep
from notification_service.wording import page_of


class NotAtThisMachine(Forbidden):
    """The page is for whoever runs the platform on this machine."""


class MailNotFound(NotFound):
    """There is no such mail."""


HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self' about:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def _at_this_machine(request: Request) -> None:
    host = request.client.host if request.client else ""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    # A proxy on this machine speaks for somebody else.
    if not local or "x-forwarded-for" in request.headers or "forwarded" in request.headers:
        raise NotAtThisMachine("This page is for whoever runs the platform on this machine.")


router = APIRouter(prefix="/development/mail", include_in_schema=False, dependencies=[Depends(_at_this_machine)])


@router.get("")
def list_mails(settings: SettingsDep) -> HTMLResponse:
    """The newest mails."""
    mails = mail_files.newest(settings.mail_directory) if settings.mail_directory else []
    rows = [{"mail": mail, "at": to_ist(mail.at).strftime("%d %b %H:%M:%S")} for mail in mails]
    return HTMLResponse(page_of("mails", rows=rows), headers=HEADERS)


@router.get("/{name}")
def show_mail(name: str, settings: SettingsDep) -> HTMLResponse:
    """One mail: its text, and its HTML in a frame that runs nothing."""
    mail = mail_files.read(settings.mail_directory, name) if settings.mail_directory else None
    if mail is None:
        raise MailNotFound("There is no such mail.")
    return HTMLResponse(page_of("mail", mail=mail, at=to_ist(mail.at)), headers=HEADERS)
