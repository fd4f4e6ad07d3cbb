# SPDX-License-Identifier: Apache-2.0
"""Who may use the page."""

import pytest

from hydra_ros.web.security import (
    check_token,
    host_refusal,
    is_loopback,
    new_token,
    origin_refusal,
    same_token,
)

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1", "[::1]"])
def test_this_machine(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "robot", "127.0.0.1.evil.com"])
def test_other_machines(host):
    assert not is_loopback(host)


def test_a_made_token_is_accepted_and_never_the_same():
    assert check_token(new_token()) != new_token()


@pytest.mark.parametrize("token", ["short", "with a space in it", "ümläutümläutümläut", "a" * 201])
def test_a_token_that_is_weak_or_does_not_fit_into_a_url_is_refused(token):
    with pytest.raises(ValueError, match="the token must be 16 to 200"):
        check_token(token)


@pytest.mark.parametrize("given", [None, "", TOKEN[:-1], TOKEN + "x", "ä", "\udc80"])
def test_only_the_token_is_the_token(given):
    assert same_token(TOKEN, TOKEN)
    assert not same_token(given, TOKEN)


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1", "[::1]:8080", "127.0.0.1:9000"])
def test_loopback_names_need_no_token(host):
    assert host_refusal(host, "") is None


@pytest.mark.parametrize("host", ["evil.com", "evil.com:8080", "192.168.1.5:8080", ""])
def test_a_foreign_name_for_this_machine_is_refused_without_a_token(host):
    assert "is not this machine" in host_refusal(host, "")
    assert host_refusal(host, TOKEN) is None


def test_only_the_page_itself_may_open_a_websocket():
    assert origin_refusal("http://localhost:8080", "localhost:8080") is None
    assert origin_refusal(None, "localhost:8080") is None
    for origin in ("http://evil.com", "http://localhost:3000", "null", "file://", "http://["):
        assert "is another site" in origin_refusal(origin, "localhost:8080")
