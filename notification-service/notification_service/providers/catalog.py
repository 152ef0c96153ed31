"""The providers of an installation, from its settings; a channel that is not set up has none."""

from collections.abc import Mapping

from common.clock import Clock
from common.config import InvalidSettings
from notification_service.config import Settings
from notification_service.kinds import Channel
from notification_service.providers.base import Provider
from notification_service.providers.chat import ChatMessages
from notification_service.providers.mail import MailFiles, SmtpMail, SmtpServer
from notification_service.providers.push import FcmPush, WebPush
from notification_service.providers.sms import TwilioSms

Providers = Mapping[Channel, Provider]


def providers_from(settings: Settings, clock: Clock) -> Providers:
    """Every way out that is set up. Raises InvalidSettings for credentials that are none."""
    found: dict[Channel, Provider | None] = {
        Channel.EMAIL: _mail(settings, clock),
        Channel.SMS: _sms(settings),
        Channel.PUSH: _push(settings),
        Channel.WEB_PUSH: _web_push(settings),
        Channel.CHAT: ChatMessages(
            webhook_hosts=settings.webhook_hosts,
            plain_http=settings.in_development,
            timeout_s=settings.provider_timeout_seconds,
        ),
    }
    return {channel: provider for channel, provider in found.items() if provider is not None}


def _mail(settings: Settings, clock: Clock) -> Provider | None:
    if settings.smtp_host:
        server = SmtpServer(
            host=settings.smtp_host,
            port=settings.smtp_port,
            security=settings.smtp_security,
            user=settings.smtp_user,
            password=settings.smtp_password.get_secret_value() or None,
            timeout_s=settings.provider_timeout_seconds,
        )
        return SmtpMail(server, sender=settings.mail_from, clock=clock)
    if settings.mail_directory is not None:
        return MailFiles(settings.mail_directory, sender=settings.mail_from, clock=clock)
    return None


def _sms(settings: Settings) -> Provider | None:
    token = settings.twilio_auth_token.get_secret_value()
    if not (settings.twilio_account_sid and token and settings.twilio_from):
        return None
    return TwilioSms(
        account_sid=settings.twilio_account_sid,
        auth_token=token,
        sender=settings.twilio_from,
        public_url=settings.public_url,
        base_url=settings.twilio_url,
        timeout_s=settings.provider_timeout_seconds,
    )


def _push(settings: Settings) -> Provider | None:
    credentials = settings.fcm_credentials()
    if credentials is None:
        return None
    try:
        return FcmPush(credentials, base_url=settings.fcm_url, timeout_s=settings.provider_timeout_seconds)
    except ValueError as error:
        raise InvalidSettings(f"NOTIFICATION_FCM_CREDENTIALS_FILE: {error}") from None


def _web_push(settings: Settings) -> Provider | None:
    key = settings.vapid_private_key.get_secret_value()
    if not key:
        return None
    return WebPush(private_key=key, subject=settings.vapid_subject, timeout_s=settings.provider_timeout_seconds)
