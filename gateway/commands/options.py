"""The common parts of the commands of `turnwire`: settings, catalog, and the exit with an error message."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import NoReturn

from pydantic import ValidationError

from gateway import settings as configuration
from gateway.commands.onlookers import option_of, warn_of_onlookers
from gateway.settings import Settings
from providers.catalog.catalog import Catalog
from providers.catalog.operator_file import CatalogError, open_catalog

FAILED = 1
WRONGLY_CALLED = 2


def fail(message: str, code: int) -> NoReturn:
    """Print `message` on standard error, and exit with `code`."""
    print(f"turnwire: {message}", file=sys.stderr)
    sys.exit(code)


def settings_of(options: Namespace) -> Settings:
    """Return the settings from the environment and the command's options. An option overrides the environment.

    Exit with 2 if a setting is wrong. Warn of secrets that other users of this machine can see.
    """
    given = {
        name: value for name, value in vars(options).items() if name in Settings.model_fields and value is not None
    }
    try:
        settings = Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        said = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:
            fail(f"Conflicting settings: {said}.", WRONGLY_CALLED)
        name, variables = configuration.variables_of(str(first["loc"][0]))
        if name in given:
            wrong = option_of(name)
        else:
            known = configuration.environment()
            wrong = " or ".join([one for one in variables if one in known] or variables)
        fail(f"{wrong} is invalid: {said}. See the README for valid values.", WRONGLY_CALLED)
    warn_of_onlookers(given, settings)
    return settings


def catalog_of(settings: Settings) -> Catalog:
    """Return the catalog of this process. Exit with 2 if the operator's file is wrong."""
    try:
        return open_catalog(configuration.environment(), settings.models)
    except CatalogError as error:
        fail(str(error), WRONGLY_CALLED)
