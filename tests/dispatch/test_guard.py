import pytest

from tollhouse.dispatch.guard import refused_address

NEVER = [
    ("169.254.169.254", "metadata"),
    ("169.254.170.2", "metadata"),
    ("168.63.129.16", "metadata"),
    ("100.100.100.200", "metadata"),
    ("fd00:ec2::254", "metadata"),
    ("0.0.0.0", "unspecified"),
    ("0.1.2.3", "unspecified"),
    ("::", "unspecified"),
    ("169.254.1.1", "link-local"),
    ("fe80::1", "link-local"),
    ("fe80::1%eth0", "link-local"),
    ("224.0.0.1", "multicast"),
    ("ff02::1", "multicast"),
    ("192.0.2.1", "reserved"),
    ("198.18.0.1", "reserved"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.255", "reserved"),
    ("2001:db8::1", "reserved"),
    ("fec0::1", "reserved"),
    ("100::1", "reserved"),
    ("4000::1", "reserved"),
    ("api.openai.com", "not an IP"),
    ("2130706433", "not an IP"),
    ("0x7f.1", "not an IP"),
    ("", "not an IP"),
]
PRIVATE = [
    ("127.0.0.1", "loopback"),
    ("127.255.255.255", "loopback"),
    ("::1", "loopback"),
    ("10.0.0.1", "private"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.168.1.1", "private"),
    ("fc00::1", "private"),
    ("fd12:3456::1", "private"),
    ("100.64.0.1", "carrier-grade"),
    ("100.127.255.255", "carrier-grade"),
    ("::ffff:10.0.0.1", "inside an IPv6"),
    ("::ffff:8.8.8.8", "inside an IPv6"),
    ("::10.0.0.1", "inside an IPv6"),
    ("64:ff9b::7f00:1", "inside an IPv6"),
    ("64:ff9b:1::7f00:1", "inside an IPv6"),
    ("2002:7f00:1::", "inside an IPv6"),
    ("2001:0:4136:e378:8000:63bf:80ff:fffe", "inside an IPv6"),
]
PUBLIC = [
    "8.8.8.8",
    "104.18.7.192",
    "172.32.0.1",
    "100.128.0.1",
    "192.0.1.1",
    "2606:4700::6812:7c0",
    "2a00:1450::1",
]


@pytest.mark.parametrize(("ip", "rule"), NEVER)
def test_what_nothing_lifts(ip: str, rule: str) -> None:
    """Metadata, link-local, multicast, unspecified and reserved addresses are refused whatever the entry says."""
    assert rule in (refused_address(ip) or "")
    assert rule in (refused_address(ip, allow_private=True) or "")


@pytest.mark.parametrize(("ip", "rule"), PRIVATE)
def test_what_allow_private_lifts(ip: str, rule: str) -> None:
    """Inner addresses are refused, and dialled when the provider's entry allows it."""
    assert rule in (refused_address(ip) or "")
    assert refused_address(ip, allow_private=True) is None


@pytest.mark.parametrize("ip", PUBLIC)
def test_what_is_public(ip: str) -> None:
    """A public address is dialled, also just beside a private range."""
    assert refused_address(ip) is None
    assert refused_address(ip, allow_private=True) is None


@pytest.mark.parametrize("ip", ["::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::"])
def test_metadata_inside_an_ipv6_address(ip: str) -> None:
    """allow_private is no way to a metadata address that hides in an IPv6 one."""
    assert "metadata" in (refused_address(ip, allow_private=True) or "")
