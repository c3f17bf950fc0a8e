"""Sends mail over SMTP. One message at a time, in a thread: nobody's call waits for it."""

from __future__ import annotations

import asyncio
import os
import smtplib
import ssl
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Literal, Self

import structlog
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from vantage6.common.errors import Vantage6Error
from vantage6.server.domain.checks import check_email

log = structlog.get_logger(__name__)

SECONDS = 30.0
LARGEST_SECRET = 4096
PASSWORD_VARIABLE = "VANTAGE6_MAIL_PASSWORD"  # noqa: S105 - a name


class MailConfig(BaseModel):
    """The mail server. `starttls` begins in the clear and insists on TLS; `implicit` is TLS from the first byte."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    host: str = Field(min_length=1, max_length=253)
    """Name of the mail server."""
    port: int = Field(default=587, ge=1, le=65_535)
    """Its port: 587 for `starttls`, 465 for `implicit` as a rule."""
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    """`starttls` begins in the clear and insists on TLS, `implicit` is TLS from the first byte, `none` is without."""
    ca_file: Path | None = None
    """Certificates to trust beside the system's, for a mail server of one's own."""
    user: str = ""
    """Who logs in there; nobody unless given."""
    password: str = Field(default="", repr=False)
    """With which password; better in password_file, or in VANTAGE6_MAIL_PASSWORD."""
    password_file: Path | None = None
    """File with the password."""
    sender: str
    """Email address that mails come from."""
    reset_page: str = Field(default="", pattern=r"^(https?://[\x21-\x7e]+)?$")
    """Page where people set their password; named in the mail, with nothing appended."""

    @field_validator("sender")
    @classmethod
    def _is_address(cls, sender: str) -> str:
        try:
            return check_email(sender)
        except Vantage6Error as error:
            raise ValueError("is no email address") from error

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        if self.password and self.password_file:
            raise ValueError("give password or password_file, not both")
        if self.user and self.tls == "none" and self.host not in {"localhost", "127.0.0.1", "::1"}:
            raise ValueError("a password is not sent without TLS; set tls to starttls or implicit")
        return self

    def secret(self) -> str:
        if self.password_file is None:
            return self.password or os.environ.get(PASSWORD_VARIABLE, "")
        return self.password_file.read_text(encoding="utf-8")[:LARGEST_SECRET].strip()


class SmtpMailer:
    """Delivers to the mail server; whoever calls decides what to do about a failure."""

    def __init__(self, config: MailConfig) -> None:
        self._config = config

    async def send(self, to: str, subject: str, body: str) -> None:
        """Raises OSError or SMTPException. All three are one line or plain text: nothing can add a header (X14)."""
        message = EmailMessage(policy=SMTP)
        # Header classes refuse line breaks and quote what has a meaning in an address.
        message["From"] = Address(addr_spec=self._config.sender)
        message["To"] = Address(addr_spec=to)
        message["Subject"] = subject
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain=self._config.sender.rpartition("@")[2])
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(body)
        await asyncio.to_thread(self._deliver, message)

    def _deliver(self, message: EmailMessage) -> None:
        config = self._config
        context = ssl.create_default_context()
        if config.ca_file is not None:
            context.load_verify_locations(config.ca_file)
        if config.tls == "implicit":
            with smtplib.SMTP_SSL(config.host, config.port, timeout=SECONDS, context=context) as server:
                self._talk(server, message)
            return
        with smtplib.SMTP(config.host, config.port, timeout=SECONDS) as server:
            if config.tls == "starttls":
                # Fails where the server does not offer it: never on in the clear.
                server.starttls(context=context)
            self._talk(server, message)

    def _talk(self, server: smtplib.SMTP, message: EmailMessage) -> None:
        if self._config.user:
            server.login(self._config.user, self._config.secret())
        server.send_message(message)
