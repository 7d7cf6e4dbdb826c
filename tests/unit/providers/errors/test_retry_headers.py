"""How long to wait before the next request, in every form in which headers say so."""

import random
from email.utils import formatdate

import pytest

from providers.errors.retry_headers import WAIT_MAX_MS, retry_after_ms

NOW = 1_795_000_000.0
BROKEN = (
    "",
    " ",
    "soon",
    "nan",
    "inf",
    "-5",
    "0",
    "null",
    "3x",
    "1m30",
    "Thu, 99 Foo 2026",
    "::",
    "é",
    "9" * 40,
)
FORMS = (
    "3",
    "3.0",
    " 3 ",
    "3s",
    "3 s",
    "3sec",
    "3 seconds",
    "3000ms",
    "0m3s",
    "3, 3",
    "3,1",
    "soon, 3",
    '"3"',
    formatdate(NOW + 3, usegmt=True),
    "2026-11-18T11:06:43Z",
    str(int(NOW) + 3),
)


@pytest.mark.parametrize("form", FORMS)
def test_each_form(form: str) -> None:
    """Every form of a wait of three seconds is read, and a date is compared with our clock if there is no other."""
    assert retry_after_ms({"retry-after": form}, NOW) == 3000


@pytest.mark.parametrize(
    ("value", "milliseconds"),
    [
        ("1m30s", 90_000),
        ("1m", 60_000),
        ("2h", 7_200_000),
        ("1h1m1s", 3_661_000),
        ("1d", 86_400_000),
        ("2d", WAIT_MAX_MS),
        ("250ms", 250),
        ("1e400", WAIT_MAX_MS),
        (formatdate(NOW - 3, usegmt=True), None),
    ],
)
def test_spans(value: str, milliseconds: int | None) -> None:
    """A wait may have units. It is at most a day, and a time that has passed is no wait."""
    assert retry_after_ms({"retry-after": value}, NOW) == milliseconds


def test_a_broken_header_hides_no_other() -> None:
    """Whichever header is broken, the one that can be read is used, and without any there is no wait."""
    rng = random.Random(16)
    for broken in BROKEN:
        assert retry_after_ms({"retry-after-ms": broken, "retry-after": broken, "date": broken}, NOW) is None, broken
        for form in FORMS:
            headers = {"retry-after-ms": broken, "retry-after": form, "date": rng.choice(BROKEN)}
            assert retry_after_ms(headers, NOW) == 3000, headers
        assert retry_after_ms({"retry-after-ms": "40", "retry-after": broken}, NOW) == 40


def test_the_clock_of_the_provider() -> None:
    """A date is compared with the provider's own clock, if it sends its time."""
    for skew_s in (-86_400, -5, 0, 5, 86_400):
        headers = {
            name: formatdate(NOW + skew_s + ahead, usegmt=True) for name, ahead in (("date", 0), ("retry-after", 30))
        }
        assert retry_after_ms(headers, NOW) == 30_000


def test_limits_that_are_used_up() -> None:
    """If no header gives a wait, a limit that is used up gives it: the time until its reset. Other limits are ignored."""
    headers = {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1m2s",
        "x-ratelimit-remaining-tokens": "5",
        "x-ratelimit-reset-tokens": "9h",
    }
    assert retry_after_ms(headers, NOW) == 62_000
    assert retry_after_ms(headers | {"retry-after": "7"}, NOW) == 7_000
    assert retry_after_ms(headers | {"x-ratelimit-remaining-requests": "1"}, NOW) is None
    epoch_ms = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW * 1000) + 4_000)}
    assert retry_after_ms(epoch_ms, NOW) == 4_000


@pytest.mark.parametrize("away_s", [-86_400, -3600, 3600, 86_400])
def test_a_clock_that_is_far_off(away_s: float) -> None:
    """The wait is right, whether the provider's clock is wrong or only its `Date`."""
    wrong_date = {"date": formatdate(NOW + away_s, usegmt=True)}
    assert retry_after_ms(wrong_date | {"retry-after": formatdate(NOW + 3, usegmt=True)}, NOW) == 3000
    assert retry_after_ms(wrong_date | {"retry-after": formatdate(NOW + away_s + 3, usegmt=True)}, NOW) == 3000
