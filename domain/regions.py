"""Regions of prices and people: countries by ISO 3166-1 alpha-2, or `*` for all others.

Only input is checked. Old events may hold other regions: no game has a price of its own there, so
the `*` price applies.
"""

from domain.errors import Invalid

ANY_REGION = "*"

# ISO 3166-1 alpha-2, officially assigned codes: iso3166.tab of the IANA time zone database, 2025b.
# It leaves out codes that are only reserved (UK, EU) or for private use (ZZ).
COUNTRIES = frozenset(
    """
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR
    BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ
    EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW
    GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY
    KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV
    MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY
    QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG
    TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM
    ZW
    """.split()  # noqa: SIM905 - a table reads better as one
)


def is_country(code: str) -> bool:
    """Whether this is an assigned code, in capitals."""
    return code in COUNTRIES


def check_region(region: str) -> None:
    """Raises Invalid("invalid_region") unless the region is a country."""
    if region not in COUNTRIES:
        raise Invalid(
            "invalid_region", f"{region[:16]!r} is not a country code of ISO 3166-1 (GB, US, …)"
        )


def check_price_region(region: str) -> None:
    """Raises Invalid("invalid_region") unless the region is a country or `*`."""
    if region != ANY_REGION:
        check_region(region)
