"""Mail, push notices, and the webhooks of merchants."""

from email.utils import parseaddr
from typing import Literal

from pydantic import BaseModel, Field, SecretStr, ValidationInfo, field_validator

from runtime.settings.values import Seconds, checked, split


class NoticeSettings(BaseModel):
    """Mail, push notices, and the webhooks of merchants."""

    smtp_url: SecretStr = Field(
        SecretStr(""),
        description="SMTP server for mail: smtp://user:password@host:port (TLS where offered), smtp+starttls://… or smtps://…. Empty: files in HOME/mail.",
    )
    mail_from: str = Field(
        "",
        description="Who mail comes from, as `Shop <shop@example.com>`; needed with LUDOTECA_SMTP_URL.",
    )
    push_url: SecretStr = Field(
        SecretStr(""),
        description="Gateway that push notifications are posted to. Empty: files in HOME/push.",
    )
    notice_retry_seconds: Seconds = Field(
        (2.0, 30.0, 300.0, 1800.0),
        description="Pauses between tries of a mail or push notice, or of a fiscal receipt, comma separated; then it is a dead letter.",
    )
    webhook_retry_seconds: Seconds = Field(
        (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0),
        description="Pauses between tries of a webhook to a merchant, comma separated; then it is a dead letter.",
    )
    webhook_private: Literal["refuse", "allow"] = Field(
        "refuse",
        description="Whether merchants' webhooks may be http, or lead to addresses that are not public: for development.",
    )

    @field_validator("notice_retry_seconds", "webhook_retry_seconds", mode="before")
    @classmethod
    def _split_pauses(cls, value: object) -> object:
        return split(value)

    @field_validator("push_url")
    @classmethod
    def _push_address(cls, value: SecretStr) -> SecretStr:
        return checked(value, "http", "https")

    @field_validator("smtp_url")
    @classmethod
    def _smtp(cls, value: SecretStr) -> SecretStr:
        return checked(value, "smtp", "smtp+starttls", "smtps")

    @field_validator("mail_from")
    @classmethod
    def _sender(cls, value: str, info: ValidationInfo) -> str:
        smtp_url = info.data.get("smtp_url")
        if (
            smtp_url is not None
            and smtp_url.get_secret_value()
            and not parseaddr(value)[1].rpartition("@")[0]
        ):
            raise ValueError("an e-mail address is needed with LUDOTECA_SMTP_URL")
        return value
