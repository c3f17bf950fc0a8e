"""Mail over a real SMTP conversation: a server that wants TLS and a log-in."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
import warnings
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from pydantic import ValidationError

from vantage6.gateway.certificates import Certificates, make_certificates
from vantage6.server.domain.recovery import Lost, RecoveryRules
from vantage6.server.mail import MailConfig, SmtpMailer

from .live import Live
from .test_accounts import login
from .test_recovery import NEW, reset

USER, SECRET = "mailer", "smtp password"


@dataclass
class Post:
    """A mail server that speaks TLS only and knows one user."""

    received: list[Any] = field(default_factory=list)
    logins: list[bytes] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.encrypted.append(server.transport.get_extra_info("sslcontext") is not None)
        self.received.append((envelope.mail_from, envelope.rcpt_tos, message_from_bytes(envelope.content)))
        return "250 OK"

    def authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.logins.append(data.login)
        good = (data.login, data.password) == (USER.encode(), SECRET.encode())
        return AuthResult(success=good, handled=False)


@dataclass
class Office:
    post: Post
    config: MailConfig


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=["starttls", "implicit"])
async def office(request: pytest.FixtureRequest, certificates: Certificates, tmp_path: Path) -> AsyncIterator[Office]:
    post, tls = Post(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificates.certificate, certificates.key)
    first = request.param == "implicit"

    def speak() -> SMTP:
        # Behind TLS from the first byte, aiosmtpd does not know that it is encrypted.
        tied: dict[str, Any] = {"auth_require_tls": False} if first else {"tls_context": tls, "require_starttls": True}
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            return SMTP(post, hostname="mail.example", authenticator=post.authenticate, auth_required=True, **tied)

    server = await asyncio.get_running_loop().create_server(speak, "127.0.0.1", 0, ssl=tls if first else None)
    (tmp_path / "smtp.secret").write_text(SECRET + "\n")
    config = MailConfig(
        host="127.0.0.1", port=server.sockets[0].getsockname()[1], tls=request.param, ca_file=certificates.ca,
        user=USER, password_file=tmp_path / "smtp.secret", sender="vantage6@server.example",
        reset_page="https://portal.example/reset",
    )  # fmt: skip
    async with server:
        yield Office(post, config)


@pytest.mark.row("M08")
async def test_a_password_comes_back_over_smtp(office: Office, live: Live) -> None:
    recovery = RecoveryRules(
        live.database, live.passwords, SmtpMailer(office.config), reset_page=office.config.reset_page
    )
    work = asyncio.create_task(recovery.run())
    recovery.lose(Lost("root"), "10.0.0.1")
    await recovery.idle()
    work.cancel()
    ((sender, recipients, message),) = office.post.received
    assert (sender, recipients) == ("vantage6@server.example", ["root@localhost"])
    assert office.post.logins == [USER.encode()]
    assert office.post.encrypted == [True]
    assert message["Subject"] == "Set a new vantage6 password"
    assert message["To"] == "root@localhost"
    text = message.get_payload(decode=True).decode()
    assert "https://portal.example/reset" in text
    token = next(line.strip() for line in text.splitlines() if line.startswith("    "))
    await reset(live, token)
    assert (await login(live, password=NEW)).access_token


@pytest.mark.attack("X14")
async def test_x14_no_header_and_no_recipient_can_be_added(office: Office) -> None:
    mailer = SmtpMailer(office.config)
    for to in ("a@b.example\r\nBcc: c@d.example", "a@b.example>\r\nRCPT TO:<c@d.example", "a@b.example, c@d.example"):
        with pytest.raises((ValueError, IndexError)) as caught:
            await mailer.send(to, "subject", "body")
        assert caught.type.__name__ != "UnicodeError"
    with pytest.raises(ValueError, match=r"(?i)linefeed|newline|carriage"):
        await mailer.send("a@b.example", "subject\r\nBcc: c@d.example", "body")
    assert office.post.received == []
    await mailer.send("a@b.example", "subject", "body\r\n.\r\nMAIL FROM:<x@y.example>\r\n.hidden")
    ((_, recipients, message),) = office.post.received
    assert recipients == ["a@b.example"]
    assert "MAIL FROM:<x@y.example>" in message.get_payload()


async def test_a_server_that_is_not_trusted_gets_neither_password_nor_mail(office: Office) -> None:
    stranger = office.config.model_copy(update={"ca_file": None})
    with pytest.raises(ssl.SSLCertVerificationError):
        await SmtpMailer(stranger).send("a@b.example", "subject", "body")
    assert office.post.logins == []
    assert office.post.received == []


async def test_a_wrong_password_is_an_error_for_the_log(office: Office, tmp_path: Path) -> None:
    wrong = office.config.model_copy(update={"password_file": None, "password": "wrong"})
    with pytest.raises(smtplib.SMTPAuthenticationError):
        await SmtpMailer(wrong).send("a@b.example", "subject", "body")


async def test_a_dead_mail_server_does_not_stop_the_next_mail(live: Live) -> None:
    class Dying:
        def __init__(self) -> None:
            self.tried = 0

        async def send(self, to: str, subject: str, body: str) -> None:
            self.tried += 1
            raise ConnectionRefusedError

    mailer = Dying()
    recovery = RecoveryRules(live.database, live.passwords, mailer)
    work = asyncio.create_task(recovery.run())
    for _ in range(2):
        recovery.lose(Lost("root"), "10.0.0.1")
    await recovery.idle()
    assert mailer.tried == 2
    assert not work.done()
    work.cancel()


@pytest.mark.parametrize(
    "wrong",
    [
        {"sender": "nobody"},
        {"sender": "a@b.example\nBcc: c@d.example"},
        {"sender": "a@b.example", "password": "x", "password_file": "y"},
        {"sender": "a@b.example", "user": "u", "tls": "none"},
        {"sender": "a@b.example", "reset_page": "javascript:alert(1)"},
    ],
)
def test_unsafe_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MailConfig(host="mail.example", **wrong)


def test_the_password_is_not_shown() -> None:
    assert "hunter22" not in repr(MailConfig(host="mail.example", sender="a@b.example", password="hunter22"))
