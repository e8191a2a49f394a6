"""Where the API listens, and where it is reached."""

from ipaddress import ip_network
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, field_validator, model_validator

from runtime.host.addresses import check_host
from runtime.settings.values import Duration, Strings, checked, http_url, split


class ListeningSettings(BaseModel):
    """Where the API listens, and where it is reached."""

    host: str = Field("127.0.0.1", description="Address that the API listens on.")
    port: int = Field(8000, ge=1, le=65535, description="Port that the API listens on.")
    tls_cert: str = Field(
        "",
        description="PEM file with the API's certificate and those of its authorities: the API then speaks https only. Renewed files are taken up within seconds.",
    )
    tls_key: str = Field(
        "", description="PEM file with the private key of LUDOTECA_TLS_CERT, not encrypted."
    )
    public_url: str = Field(
        "",
        description="Where clients reach the API, if not at http://HOST:PORT, with LUDOTECA_TLS_CERT https://HOST:PORT.",
    )
    trusted_proxies: Strings = Field(
        (), description="Addresses of proxies whose X-Forwarded-For is trusted."
    )
    cors_origins: Strings = Field(
        (),
        description="Origins of web pages that may call the API from browsers, comma separated (https://shop.example.com), or *. Empty: none but the API's own.",
    )
    max_connections: int = Field(
        800,
        ge=1,
        description="Most connections of one API process, WebSockets included; more are refused with 503.",
    )
    head_seconds: Duration = Field(
        10.0, gt=0, description="How long the head of a request may take to arrive; then 408."
    )
    body_seconds: Duration = Field(
        30.0, gt=0, description="How long the body of a request may take to arrive; then 408."
    )
    rate_limit: Literal["on", "off"] = Field(
        "on", description="Whether requests are rate-limited per client and user."
    )
    rate_limit_ipv6_prefix: int = Field(
        64,
        ge=1,
        le=128,
        description="How many leading bits of an IPv6 address count as one client.",
    )

    @field_validator("trusted_proxies", "cors_origins", mode="before")
    @classmethod
    def _split_list(cls, value: object) -> object:
        return split(value)

    @field_validator("host")
    @classmethod
    def _listened_on(cls, value: str) -> str:
        check_host(value)
        return value

    @field_validator("tls_cert", "tls_key")
    @classmethod
    def _file(cls, value: str) -> str:
        return str(Path(value).expanduser().resolve()) if value else value

    @model_validator(mode="after")
    def _certificate_and_key(self) -> Self:
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("LUDOTECA_TLS_CERT and LUDOTECA_TLS_KEY are set together")
        return self

    @field_validator("public_url")
    @classmethod
    def _public_address(cls, value: str) -> str:
        return checked(value, "http", "https", base=True)

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            if each != "*":
                ip_network(each, strict=False)
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """As browsers send them: without a path, and without a last slash."""
        origins = tuple(each.rstrip("/") for each in value)
        for each in origins:
            if each != "*":
                checked(each, "http", "https", base=True)
                if urlsplit(each).path:
                    raise ValueError("an origin is a scheme, a host and a port, without a path")
        return origins

    @property
    def api_url(self) -> str:
        """Where clients reach the API."""
        return self.public_url.rstrip("/") or self.local_url

    @property
    def local_url(self) -> str:
        """The URL at which this machine's processes reach the API."""
        return http_url(self.host, self.port, tls=bool(self.tls_cert))
