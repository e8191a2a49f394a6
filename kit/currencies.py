"""Currencies: the exponent of each, and its largest amount.

Codes and exponents are ISO 4217's, active national currencies (no funds, metals or test codes): the
list of 2026-01-01. The value of a currency is coarse on purpose, so that it need not follow the
markets: how many units one euro buys, rounded down to a power of ten. Source: the euro foreign
exchange reference rates of the ECB (https://www.ecb.europa.eu/stats, 2025) and, for currencies that
it does not quote, the IMF's representative rates of the same year (https://www.imf.org, "Exchange
Rates"); for the Iranian rial, whose official and market rates lie far apart, a value between them.
A value that is wrong by one power of ten makes a limit ten times too large or too small, nothing
else.
"""

from collections.abc import Mapping

MAJOR_UNITS = 1_000_000
"""The largest amount, in major units of a currency worth about one euro."""

_UNITS_OF_A_EURO = {
    1: (
        """
        AED AUD AWG AZN BAM BBD BHD BMD BND BOB BRL BSD BYN BZD CAD CHF CNY DKK EUR FJD FKP GBP
        GEL GIP GTQ HKD ILS JOD KWD KYD LYD MOP MYR NZD OMR PAB PEN PGK PLN QAR RON SAR SBD SGD
        SHP TMT TND TOP TTD USD WST XCD XCG"""
    ),
    10: (
        """
        AFN ALL BWP CUP CZK DOP EGP ERN GHS GMD HNL LSL MAD MDL MKD MRU MUR MVR MXN MZN NAD NIO
        NOK PHP RUB SCR SEK SLE SRD STN SVC SZL THB TJS TRY TWD UAH UYU ZAR ZMW ZWG"""
    ),
    100: (
        """
        AMD BDT BTN CRC CVE DJF DZD ETB GYD HTG HUF INR ISK JMD JPY KES KGS KMF KZT LKR LRD NPR
        PKR RSD SDG SOS VED VES VUV XAF XOF XPF YER"""
    ),
    1_000: "AOA ARS BIF CDF CLP COP IQD KHR KPW KRW MGA MMK MNT MWK NGN PYG RWF SSP TZS UGX",
    10_000: "GNF IDR LAK SYP UZS VND",
    100_000: "IRR LBP",
}
_EXPONENTS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF",
    3: "BHD IQD JOD KWD LYD OMR TND",
}

EXPONENT: Mapping[str, int] = {
    **{code: 2 for codes in _UNITS_OF_A_EURO.values() for code in codes.split()},
    **{code: exponent for exponent, codes in _EXPONENTS.items() for code in codes.split()},
}
"""By code: the number of decimals. The smallest unit is 10^-exponent of the major one."""

MAX_CENTS: Mapping[str, int] = {
    code: MAJOR_UNITS * units * 10 ** EXPONENT[code]
    for units, codes in _UNITS_OF_A_EURO.items()
    for code in codes.split()
}
"""By code: the largest amount, in the currency's smallest unit."""
