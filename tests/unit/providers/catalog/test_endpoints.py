"""Building a provider's endpoint, and finding what is missing for it."""

from __future__ import annotations

import pytest

from providers.catalog.endpoints import build_endpoint, find_missing, resolve_variant, variables_of
from providers.catalog.schema import ProviderRow

ROW = ProviderRow(
    title="Acme",
    base_url="https://{ACME_REGION}.acme.example/v1",
    base_url_variables=("ACME_URL",),
    keys=("ACME_KEY", "OTHER_KEY"),
    credentials=("ACME_PROFILE",),
    headers={"X-Team": "team {ACME_TEAM}", "X-Plain": "plain"},
    options={"project": ("ACME_PROJECT",), "zone": ("ACME_ZONE",)},
    required=("project",),
    also=("acmee",),
    patterns=("acme-*",),
)
COMPLETE = {"ACME_REGION": "eu", "ACME_KEY": "k", "ACME_TEAM": "chat", "ACME_PROJECT": "p"}


def test_endpoint() -> None:
    """The base URL, keys, headers and options are taken from the variables that the row names."""
    endpoint = build_endpoint("acme", ROW, COMPLETE)
    assert endpoint.base_url == "https://eu.acme.example/v1"
    assert endpoint.api_keys == ("k",)
    assert endpoint.headers == {"X-Team": "team chat", "X-Plain": "plain"}
    assert endpoint.options == {"project": "p"}
    assert build_endpoint("acme", ROW, COMPLETE | {"ACME_URL": "http://x"}).base_url == "http://x"


def test_blank_variables_are_unset() -> None:
    """A blank variable is unset: the next one is used, and a header without its value isn't sent."""
    endpoint = build_endpoint("acme", ROW, {"ACME_KEY": " ", "OTHER_KEY": "b, ,c\n", "ACME_TEAM": ""})
    assert (endpoint.base_url, endpoint.api_keys) == ("", ("b", "c"))
    assert endpoint.headers == {"X-Plain": "plain"}


@pytest.mark.parametrize(
    ("without", "needs"),
    [
        ((), ""),
        (("ACME_KEY",), "ACME_KEY or OTHER_KEY or ACME_PROFILE"),
        (("ACME_REGION",), "ACME_REGION or ACME_URL"),
        (("ACME_TEAM",), "ACME_TEAM"),
        (("ACME_PROJECT",), "ACME_PROJECT"),
        (("ACME_KEY", "ACME_TEAM"), "(ACME_KEY or OTHER_KEY or ACME_PROFILE) and ACME_TEAM"),
    ],
)
def test_missing(without: tuple[str, ...], needs: str) -> None:
    """Every missing variable is named with its alternatives."""
    environment = {name: value for name, value in COMPLETE.items() if name not in without}
    assert find_missing(ROW, build_endpoint("acme", ROW, environment), environment) == needs
    if "ACME_KEY" in without:
        environment |= {"ACME_PROFILE": "me"}
        assert "ACME_KEY" not in find_missing(ROW, build_endpoint("acme", ROW, environment), environment)


@pytest.mark.parametrize(
    "key",
    [
        "Authorization: Bearer sk-1",
        '"sk-1"',
        "'sk-1'",
        "Bearer sk-1",
        "bearer  sk-1 ",
        '"Bearer sk-1"',
        'Bearer "sk-1"',
        "`sk-1`\n",
    ],
)
def test_quotes_and_bearer_are_removed(key: str) -> None:
    """A key is often copied with the quotes or the word Bearer around it. They are removed from each key, if there
    are several. Quotes around the value of any other variable are removed too."""
    several = COMPLETE | {"ACME_KEY": f"{key},{key}", "ACME_URL": '"http://x"', "ACME_PROJECT": "'p'"}
    endpoint = build_endpoint("acme", ROW, several)
    assert endpoint.api_keys == ("sk-1", "sk-1")
    assert (endpoint.base_url, endpoint.options) == ("http://x", {"project": "p"})
    assert find_missing(ROW, endpoint, several) == ""
    assert build_endpoint("acme", ROW, COMPLETE | {"ACME_KEY": '"a,b"'}).api_keys == ("a", "b")
    assert build_endpoint("acme", ROW, COMPLETE | {"ACME_KEY": "bearer-1"}).api_keys == ("bearer-1",)


def test_every_variable_of_a_row_is_known() -> None:
    """`variables_of` returns the variables of the row's keys, credentials, base URL, headers and options."""
    assert variables_of(ROW) == {
        *("ACME_REGION", "ACME_URL", "ACME_KEY", "OTHER_KEY", "ACME_PROFILE", "ACME_TEAM", "ACME_PROJECT", "ACME_ZONE")
    }


@pytest.mark.parametrize("url", ["http://", "http://h:99999/v1", "http://[h/v1", "http://me:secret@h/v1"])
def test_invalid_base_url(url: str) -> None:
    """An invalid base URL is reported before anything is sent, and the report doesn't repeat it."""
    environment = COMPLETE | {"ACME_URL": url}
    missing = find_missing(ROW, build_endpoint("acme", ROW, environment), environment)
    assert missing == "a base URL like https://HOST:PORT/PATH, without a user in it"


@pytest.mark.parametrize("key", ["…", "“k”", "good, b\nad"])
def test_key_with_invalid_characters(key: str) -> None:
    """A key with characters that a header can't carry is reported before anything is sent, and isn't repeated."""
    environment = COMPLETE | {"ACME_KEY": key}
    missing = find_missing(ROW, build_endpoint("acme", ROW, environment), environment)
    assert missing == "ACME_KEY without characters that a header can't carry"
    assert key not in missing


@pytest.mark.parametrize(
    ("package", "needs"),
    [("json", ""), ("no_such", "the extra turnwire[cloud]"), ("no_such.at", "the extra turnwire[cloud]")],
)
def test_missing_package(package: str, needs: str) -> None:
    """A missing package is reported as the extra to install, and nothing else is reported then."""
    row = ROW.model_copy(update={"package": package, "extra": "cloud"})
    assert find_missing(row, build_endpoint("acme", row, COMPLETE), COMPLETE) == needs
    if needs:
        assert find_missing(row, build_endpoint("acme", row, {}), {}) == needs


def test_variant_inherits_from_its_provider() -> None:
    """The fields that a variant doesn't set are those of its provider, except the provider's other names and patterns."""
    variant = ProviderRow(title="Acme (China)", variant_of="acme", base_url="https://acme.cn/v1", keys=("CN_KEY",))
    variant_row = resolve_variant(variant, {"acme": ROW})
    assert (variant_row.title, variant_row.keys, variant_row.base_url) == (
        "Acme (China)",
        ("CN_KEY",),
        "https://acme.cn/v1",
    )
    assert variant_row.options == ROW.options
    assert (variant_row.also, variant_row.patterns) == ((), ())
    assert resolve_variant(ROW, {}) is ROW
