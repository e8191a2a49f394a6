"""Amounts and currencies: what is acceptable, and how an amount reads in a text.

An amount is an integer of the currency's smallest unit (cents for USD, yen for JPY), here always named `…_cents`.
"""

from domain.errors import Invalid

MAX_AMOUNT_CENTS = 10_000_000

# ISO 4217, active national currencies (no funds, metals or test codes): the list of 2026-01-01.
CURRENCIES = frozenset(
    """
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CLP CNY COP
    CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR
    IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU
    MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG
    SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES VND VUV
    WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG
    """.split()  # noqa: SIM905 - a table reads better as one
)
_DECIMALS = {
    **dict.fromkeys("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF".split(), 0),  # noqa: SIM905
    **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),  # noqa: SIM905
}


def check_currency(code: str) -> None:
    """Raises Invalid("invalid_currency") unless it is an active ISO 4217 code, in capitals."""
    if code not in CURRENCIES:
        raise Invalid("invalid_currency", f"{code!r} is not an ISO 4217 currency")


def check_amount(amount_cents: int, *, at_least: int = 0) -> None:
    """Raises Invalid("invalid_amount") unless at_least ≤ amount ≤ MAX_AMOUNT_CENTS."""
    if not at_least <= amount_cents <= MAX_AMOUNT_CENTS:
        raise Invalid("invalid_amount", f"an amount lies between {at_least} and {MAX_AMOUNT_CENTS}")


def format_amount(amount_cents: int, currency: str) -> str:
    """An amount for people: `19.99 USD`, `1500 JPY`, `-0.05 EUR`."""
    decimals = _DECIMALS.get(currency, 2)
    if not decimals:
        return f"{amount_cents} {currency}"
    whole, rest = divmod(abs(amount_cents), 10**decimals)
    sign = "-" if amount_cents < 0 else ""
    return f"{sign}{whole}.{rest:0{decimals}} {currency}"
