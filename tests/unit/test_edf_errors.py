# SPDX-License-Identifier: Apache-2.0
"""What an array's errors become."""

import socket
import ssl

import pytest
import requests
import urllib3.exceptions

from container_stack import exceptions
from container_stack.imagestore import edf_errors


@pytest.mark.parametrize(
    ("method", "status", "said", "kind"),
    [
        ("GET", 400, "bad filter", exceptions.InvalidRequest),
        ("GET", 401, "", exceptions.AccessDenied),
        ("GET", 403, "", exceptions.AccessDenied),
        ("GET", 404, "", exceptions.NotFound),
        ("PATCH", 405, "", exceptions.InvalidRequest),
        ("POST", 409, "name is taken", exceptions.AlreadyExists),
        ("DELETE", 409, "has clones", exceptions.Busy),
        ("POST", 422, "size: 0 is less than the minimum", exceptions.InvalidRequest),
        ("POST", 422, "Insufficient capacity for volume", exceptions.NoSpace),
        ("PUT", 500, "Not enough free space", exceptions.NoSpace),
        ("PUT", 507, "", exceptions.NoSpace),
        ("GET", 500, "stack trace", exceptions.ArrayUnavailable),
        ("GET", 418, "", exceptions.ArrayUnavailable),
        ("GET", 302, "", exceptions.ArrayUnavailable),
        ("GET", 500, "REST server is still initializing", edf_errors.Again),
        ("GET", 503, "", edf_errors.Again),
        ("GET", 502, "", edf_errors.Again),
        ("GET", 504, "", edf_errors.Again),
    ],
)
def test_a_status_becomes_an_error_of_ours(method, status, said, kind):
    assert type(edf_errors.from_status(method, "X /y", status, said)) is kind


def test_only_a_gateway_may_have_let_a_request_through_before_it_failed():
    assert not edf_errors.from_status("POST", "X /y", 503, "").lost
    assert edf_errors.from_status("POST", "X /y", 504, "").lost


def test_what_the_array_says_is_told_short_and_without_secrets():
    said = edf_errors.message(
        {"message": "bad\n key s3cr3t", "errors": ["pw: hunter2", 7, "x" * 999]},
        ("s3cr3t", "hunter2", ""),
    )
    assert said.startswith("bad key ***; pw: ***; xxx")
    assert len(said) == 300


@pytest.mark.parametrize("payload", [None, [], "text", {"message": 7, "errors": {}}, {}])
def test_an_error_without_words_has_none(payload):
    assert edf_errors.message(payload, ()) == ""


def test_a_certificate_that_is_not_trusted_is_not_asked_for_again():
    inner = ssl.SSLCertVerificationError(1, "certificate verify failed")
    inner.verify_message = "unable to get local issuer certificate"
    outer = requests.exceptions.SSLError(urllib3.exceptions.SSLError(inner))
    found = edf_errors.from_connection("https://edf:7718", outer, 30.0)
    assert type(found) is exceptions.HostNotReady
    assert "unable to get local issuer certificate" in str(found)


@pytest.mark.parametrize(
    ("exc", "lost"),
    [
        (requests.ConnectionError(urllib3.exceptions.ProtocolError("x", ConnectionError())), True),
        (requests.ConnectionError(ConnectionRefusedError()), False),
        (TimeoutError(), True),
        (socket.gaierror(), True),
    ],
)
def test_a_broken_connection_is_worth_another_try(exc, lost):
    found = edf_errors.from_connection("https://edf:7718", exc, 30.0)
    assert type(found) is edf_errors.Again
    assert found.lost is lost
    assert "https://edf:7718" in str(found)
