"""Mail over SMTP, to a real server."""

import socket
from email.policy import SMTPUTF8, default
from typing import Any
from urllib.parse import quote

import pytest

from adapters.notifications.mail_message import to_mail
from adapters.notifications.smtp import SmtpMailer
from commands.ports.notifications import NotDelivered
from tests.support.servers.mail import (
    LOGIN,
    SENDER,
    Postbox,
    a_message,
    certified,
    check_login,
    smtp_server,
)
from tests.support.servers.shared import free_port

TOKEN = "eyJhbGciOiJIUzI1NiJ9." + "x" * 300


def mailer(url: str, **settings: Any) -> SmtpMailer:
    return SmtpMailer(url, SENDER, **{"timeout_seconds": 5.0, **settings})


async def refusal(url: str, **message: Any) -> NotDelivered:
    with pytest.raises(NotDelivered) as caught:
        await mailer(url).send(a_message(**message))
    return caught.value


# -- delivered mails -------------------------------------------------------------------------------


async def test_a_mail_arrives_with_its_sender_recipient_subject_and_text() -> None:
    async with smtp_server() as postbox:
        reference = await mailer(postbox.url).send(a_message())
    (mail,) = postbox.mails("ann@example.com")
    assert (mail["From"], mail["To"]) == (SENDER, "Ann <ann@example.com>")
    assert (mail["Subject"], mail["Auto-Submitted"]) == ("Your purchase", "auto-generated")
    assert mail.get_content() == "Hello Ann,\n\nThank you.\n"
    assert postbox.envelopes[0].mail_from == "no-reply@shop.example"
    assert reference == "queued as 1 for <…>"


async def test_a_repeat_is_the_same_message_and_another_notice_is_not() -> None:
    async with smtp_server() as postbox:
        for message in (a_message(), a_message(), a_message(notification_id=a_message().user_id)):
            await mailer(postbox.url).send(message)
    first, again, other = (mail["Message-ID"] for mail in postbox.mails())
    assert first == again != other
    assert first == f"<{a_message().notification_id}@shop.example>"


@pytest.mark.parametrize("name", ["Ána Müller", "李小龍", 'Ann "A", Esq. <x@y>', "😀 " * 60])
async def test_names_and_subjects_of_every_script_arrive(name: str) -> None:
    async with smtp_server() as postbox:
        await mailer(postbox.url).send(
            a_message(name=name, subject=f"Olá, {name}", text=f"Olá {name}\n")
        )
    (mail,) = postbox.mails("ann@example.com")
    (to,) = mail["To"].addresses
    assert (to.display_name.split(), to.addr_spec) == (name.split(), "ann@example.com")
    assert mail["Subject"].split() == f"Olá, {name}".split()
    assert mail.get_content() == f"Olá {name}\n"


async def test_a_name_or_subject_adds_no_header_and_no_recipient() -> None:
    evil = "Ann\r\nBcc: eve@example.com\r\n\r\nBuy this\x00"
    async with smtp_server() as postbox:
        await mailer(postbox.url).send(a_message(name=evil, subject=evil))
    (envelope,), (mail,) = postbox.envelopes, postbox.mails()
    assert envelope.rcpt_tos == ["ann@example.com"]
    assert mail["Bcc"] is None
    assert mail["Subject"] == "Ann Bcc: eve@example.com Buy this"


@pytest.mark.parametrize("email", ['"a,b"@example.com', "a,b@example.com", "a<b@example.com"])
async def test_an_odd_address_is_quoted_and_reaches_nobody_else(email: str) -> None:
    async with smtp_server() as postbox:
        await mailer(postbox.url).send(a_message(email=email))
    (recipient,) = postbox.envelopes[0].rcpt_tos
    assert recipient == '"{}"@{}'.format(*email.replace('"', "").split("@"))


async def test_an_address_in_another_script_needs_a_server_that_takes_it() -> None:
    async with smtp_server(enable_SMTPUTF8=True) as postbox:
        await mailer(postbox.url).send(a_message(email="añn@exämple.com"))
    assert postbox.envelopes[0].rcpt_tos == ["añn@xn--exmple-cua.com"]
    async with smtp_server() as postbox:
        assert (await refusal(postbox.url, email="añn@example.com")).code == "message_refused"
        await mailer(postbox.url).send(a_message(email="ann@exämple.com"))
    assert postbox.envelopes[0].rcpt_tos == ["ann@xn--exmple-cua.com"]


@pytest.mark.parametrize(
    ("email", "recipient"),
    [
        ("bob@faß.de", "bob@xn--fa-hia.de"),  # not fass.de, where IDNA 2003 would send it
        ("bob@fass.de", "bob@fass.de"),
        ("Bob@BÜCHER.example", "Bob@xn--bcher-kva.example"),
        ("bob@xn--bcher-kva.example", "bob@xn--bcher-kva.example"),
        ("groß@σς.example", "groß@xn--3xab.example"),
    ],
)
async def test_mail_goes_to_the_very_domain_that_was_typed(email: str, recipient: str) -> None:
    async with smtp_server(enable_SMTPUTF8=True) as postbox:
        await mailer(postbox.url).send(a_message(email=email))
    assert postbox.envelopes[0].rcpt_tos == [recipient]
    assert recipient.encode() in to_mail(a_message(email=email)).as_bytes()


def test_a_token_stays_in_one_piece_and_too_long_a_line_does_not() -> None:
    assert TOKEN.encode() in to_mail(a_message(text=f"Olá,\n{TOKEN}\n")).as_bytes()
    long = "ü" * 600
    mail = to_mail(a_message(text=long))
    assert max(map(len, mail.as_bytes().splitlines())) < 100
    assert mail.get_content().rstrip() == long


ODD = [
    "Ann",
    "",
    "Ann, O'Neil",
    'a "quoted" \\ one',
    "=?utf-8?q?=C3=BC?=",
    "a =?b",
    "Zoë",
    "漢字",
    "(comment) <x@y>; a@b: [c]",
    "x" * 60,
    "x" * 61,
    "many words " * 12,
    "trailing  ",
    "tab\tbetween",
]


@pytest.mark.parametrize("email", ["ann@example.com", '"a b"@example.com', "zoë@example.com"])
def test_headers_written_without_folding_are_what_the_library_writes(email: str) -> None:
    for name in ODD:
        for subject in ODD:
            mail = to_mail(a_message(email=email, name=name, subject=subject))
            library = SMTPUTF8 if email.startswith("zoë") else default
            assert mail.as_bytes() == mail.as_bytes(policy=library)


# -- refused mails ---------------------------------------------------------------------------------


async def sent_after(postbox: Postbox) -> bool:
    await mailer(postbox.url).send(a_message())
    return len(postbox.envelopes) == 1


async def test_a_temporary_no_is_told_from_a_permanent_one() -> None:
    async with smtp_server() as postbox:
        postbox.recipients = ["451 greylisted", "550 no such user"]
        postbox.messages = ["452 disk full", "554 looks like spam"]
        codes = [(await refusal(postbox.url)).code for _ in range(4)]
        assert codes == ["try_later", "recipient_refused", "try_later", "message_refused"]
        assert await sent_after(postbox)


async def test_a_refusal_names_nobody() -> None:
    async with smtp_server() as postbox:
        postbox.recipients = ["550 5.1.1 <ann@example.com> unknown, ask postmaster@example.com"]
        assert (await refusal(postbox.url)).detail == "550 5.1.1 <…> unknown, ask …"
        postbox.recipients = ["552 the mailbox ann.lee (Ana Lee) is full, Anna"]
        detail = (await refusal(postbox.url, name="Ana Lee", email="ann.lee@example.com")).detail
        assert detail == "552 the mailbox … (…) is full, Anna"


async def test_a_server_that_is_away_or_silent_is_unreachable() -> None:
    assert (await refusal(f"smtp://127.0.0.1:{free_port()}")).code == "unreachable"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"smtp://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(NotDelivered, match="unreachable"):
            await mailer(url, timeout_seconds=0.05).send(a_message())


# -- login and TLS ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
async def test_a_server_that_asks_for_a_login_gets_it() -> None:
    asking: dict[str, Any] = {
        "authenticator": check_login,
        "auth_required": True,
        "auth_require_tls": False,
    }
    async with smtp_server(**asking) as postbox:
        login, password = quote(LOGIN.login.decode()), quote(LOGIN.password.decode())
        await mailer(f"smtp://{login}:{password}@127.0.0.1:{postbox.port}").send(a_message())
        assert len(postbox.mails()) == 1
        wrong = await refusal(f"smtp://{login}:wrong@127.0.0.1:{postbox.port}")
    assert wrong.code == "login_refused"


async def test_mail_goes_by_tls_from_the_first_byte_or_after_starttls() -> None:
    server_tls, client_tls = certified()
    async with smtp_server(tls=server_tls) as postbox:
        await mailer(f"smtps://127.0.0.1:{postbox.port}", tls_context=client_tls).send(a_message())
        assert len(postbox.mails()) == 1
    async with smtp_server(tls_context=server_tls, require_starttls=True) as postbox:
        for scheme in ("smtp+starttls", "smtp"):
            await mailer(f"{scheme}://127.0.0.1:{postbox.port}", tls_context=client_tls).send(
                a_message()
            )
        assert len(postbox.mails()) == 2
        # who signed this?
        assert (await refusal(f"smtp+starttls://127.0.0.1:{postbox.port}")).code == "unreachable"


async def test_a_server_without_tls_gets_nothing_where_tls_is_asked_for() -> None:
    async with smtp_server() as postbox:
        assert (await refusal(f"smtp+starttls://127.0.0.1:{postbox.port}")).code == "unreachable"
        assert postbox.envelopes == []
