"""Settings: environment variables LUDOTECA_…, each with its meaning. `ludoteca settings` and
docs/settings.md list them."""

from pydantic import model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from runtime.host.addresses import check_proxies
from runtime.settings.alerting import AlertingSettings
from runtime.settings.auditing import AuditingSettings
from runtime.settings.keeping import KeepingSettings
from runtime.settings.listening import ListeningSettings
from runtime.settings.notices import NoticeSettings
from runtime.settings.payments import PaymentSettings
from runtime.settings.processes import ProcessSettings
from runtime.settings.proofs import ProofSettings
from runtime.settings.servers import ServerSettings
from runtime.settings.shop import ShopSettings


# What is listed comes from the last base to the first.
class Settings(
    AlertingSettings,
    AuditingSettings,
    ProofSettings,
    KeepingSettings,
    ProcessSettings,
    ShopSettings,
    NoticeSettings,
    PaymentSettings,
    ServerSettings,
    ListeningSettings,
    BaseSettings,
):
    """All settings. An empty variable counts as not set."""

    model_config = SettingsConfigDict(
        env_prefix="LUDOTECA_", env_ignore_empty=True, extra="ignore", hide_input_in_errors=True
    )

    @model_validator(mode="after")
    def _reached_through_proxies(self) -> "Settings":
        if self.payment_provider == "stripe" or self.images_url:
            check_proxies()
        return self
