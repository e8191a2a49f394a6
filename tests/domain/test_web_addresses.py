import pytest

from domain.errors import Invalid
from domain.web_addresses import check_url, is_public


@pytest.mark.parametrize(
    "url",
    [
        "https://merchant.example/webhooks",
        "https://merchant.example:8443/a?b=c",
        "https://merchant.example:443",
        "https://93.184.215.14/hook",
        "https://[2606:4700:4700::1111]/hook",
    ],
)
def test_a_public_https_address_is_called(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://merchant.example/hook",
        "ftp://merchant.example/hook",
        "merchant.example/hook",
        "https:///hook",
        "https://",
        "https://ann:secret@merchant.example/hook",
        "https://@merchant.example/hook",
        "https://merchant.example:22/hook",
        "https://merchant.example:80/hook",
        "https://merchant.example:0/hook",
        "https://merchant.example:99999/hook",
        "https://merchant.example:port/hook",
        "https://merchant.example/hook#part",
        "https://merchant.example\\@127.0.0.1/",
        "https://merchant.example/ hook",
        "https://merchant.example/\nhook",
        "https://münchen.example/hook",
        "https://[::1/hook",
        "https://merchant.example/" + "a" * 2048,
        "https://127.0.0.1/hook",
        "https://10.0.0.8/hook",
        "https://169.254.169.254/latest/meta-data/",
        "https://[::1]/hook",
        "https://[::ffff:127.0.0.1]/hook",
        "https://[fd00:ec2::254]/latest",
    ],
)
def test_what_might_lead_astray_is_refused(url: str) -> None:
    with pytest.raises(Invalid, match="webhook_url_refused"):
        check_url(url)


@pytest.mark.parametrize(
    "url", ["http://localhost:8080/hook", "http://127.0.0.1/hook", "https://[::1]:1/hook"]
)
def test_for_development_private_addresses_and_http_are_taken(url: str) -> None:
    check_url(url, private_allowed=True)


@pytest.mark.parametrize(
    "url", ["http://ann:secret@localhost/", "http://localhost:0/", "file:///etc/passwd"]
)
def test_also_for_development_not_everything_is_taken(url: str) -> None:
    with pytest.raises(Invalid, match="webhook_url_refused"):
        check_url(url, private_allowed=True)


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001:829::200e"]
)
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1", "100.100.100.200", "169.254.169.254", "168.63.129.16", "192.0.0.192",
        "192.0.2.1",
        "198.18.0.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
        "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1",
        "2001:db8::1",
        "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1",
        "2001::1", "fec0::1",
    ],
)  # fmt: skip
def test_all_other_addresses_are_not(address: str) -> None:
    assert not is_public(address)
