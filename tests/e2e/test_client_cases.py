"""Every client library passes the same cases, which are data (tests/client_cases/cases.toml), against real gateways."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from tests.client_cases.cases import Case, read_cases
from tests.client_cases.players import CLIENTS, start
from tests.client_cases.suite import run_cases
from tests.client_cases.world import world

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

CASES = {case.name: case for case in read_cases()}
CASES_AT_ONCE = 6
DOCUMENT = Path(__file__).parents[2] / "docs" / "compatibility.md"

Wrong = dict[tuple[str, str], list[str]]


def runs_of(client: str) -> list[Case]:
    """Return the cases that the client must pass."""
    one = CLIENTS[client]
    return [case for case in CASES.values() if case.needs <= one.features and (one.command is not None or case.browser)]


def groups_of(cases: Iterable[Case]) -> list[list[Case]]:
    """Return the cases in groups: those that lose the same gateway are run together, each of the others alone."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.gateways_lost[0] if case.gateways_lost else case.name, []).append(case)
    return list(groups.values())


async def run_all(folder: Path, wanted: set[tuple[str, str]]) -> Wrong:
    """Run the wanted cases, each with all of its clients. Return what is wrong by client and case; an empty case is the
    client's own end."""
    wrong: Wrong = {}
    clients = sorted({client for client, _ in wanted})
    slots = asyncio.Semaphore(CASES_AT_ONCE)
    async with world(folder) as running:
        processes = {client: await start(client, folder, running) for client in clients}

        async def run_group(group: list[Case]) -> None:
            asked = [
                (case, [processes[client].player for client in clients if (client, case.name) in wanted])
                for case in group
            ]
            async with slots:
                wrong.update(await run_cases(asked, running))

        try:
            await asyncio.gather(*map(run_group, groups_of(CASES.values())))
        finally:
            for client, process in processes.items():
                wrong[client, ""] = await process.stop()
    return wrong


@pytest.fixture(scope="module")
def wrong(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wrong]:
    """What is wrong, by client and case, after a run of the cases that are selected."""
    wanted = {
        (str(item.callspec.params["client"]), str(item.callspec.params["name"]))
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.path == Path(__file__)
        and hasattr(item, "callspec")
        and "name" in item.callspec.params
    }
    yield asyncio.run(run_all(tmp_path_factory.mktemp("cases"), wanted))


def clients() -> list[ParameterSet]:
    """Return a parameter for each client."""
    return [pytest.param(client, marks=marks_of(client)) for client in CLIENTS]


def marks_of(client: str) -> list[pytest.MarkDecorator]:
    """Return the marks of a client's tests."""
    return [pytest.mark.browser] if CLIENTS[client].command is None else []


@pytest.mark.parametrize(
    ("client", "name"),
    [pytest.param(client, case.name, marks=marks_of(client)) for client in CLIENTS for case in runs_of(client)],
)
def test_case(wrong: Wrong, client: str, name: str) -> None:
    """The client passes the case."""
    assert wrong[client, name] == [], "\n\n".join(wrong[client, name])


@pytest.mark.parametrize("client", clients())
def test_the_player_ends_with_0_and_without_a_word(wrong: Wrong, client: str) -> None:
    """Each command was answered, nothing was written to standard error, and after `exit` the program ended within 5 s."""
    assert wrong[client, ""] == []


def test_the_documents_list_the_cases() -> None:
    """docs/compatibility.md has the names of all cases, and no others, in the order of cases.toml."""
    section = DOCUMENT.read_text("utf-8").partition("## What every client passes")[2].partition("\n## ")[0]
    assert re.findall(r"^- (.+)\.$", section, re.M) == list(CASES)
