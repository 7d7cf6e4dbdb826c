"""What the commands of `turnwire` have in common: their settings, their catalog, and how they say that they can't go on."""

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
    """Say on standard error what is wrong, and leave with `code`."""
    print(f"turnwire: {message}", file=sys.stderr)
    sys.exit(code)


def settings_of(options: Namespace) -> Settings:
    """The settings of the environment and of the command's own options, which win. Leaves with 2 if one is wrong."""
    given = {
        name: value for name, value in vars(options).items() if name in Settings.model_fields and value is not None
    }
    try:
        settings = Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        said = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:
            fail(f"The settings don't fit together: {said}.", WRONGLY_CALLED)
        name, variables = configuration.variables_of(str(first["loc"][0]))
        if name in given:
            wrong = option_of(name)
        else:
            known = configuration.environment()
            wrong = " or ".join([one for one in variables if one in known] or variables)
        fail(f"{wrong} is wrong: {said}. See the README for what it may be.", WRONGLY_CALLED)
    warn_of_onlookers(given, settings)
    return settings


def catalog_of(settings: Settings) -> Catalog:
    """The catalog of this process. Leaves with 2 if the operator's file is wrong."""
    try:
        return open_catalog(configuration.environment(), settings.models)
    except CatalogError as error:
        fail(str(error), WRONGLY_CALLED)
