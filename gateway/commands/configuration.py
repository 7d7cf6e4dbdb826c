"""The settings and the catalog of a command."""

from __future__ import annotations

from argparse import Namespace

from pydantic import ValidationError

from gateway import settings as configuration
from gateway.commands.exits import EXIT_USAGE, fail
from gateway.commands.secret_exposure import option_name, warn_of_exposed_secrets
from gateway.settings import Settings
from providers.catalog.catalog import Catalog
from providers.catalog.operator_file import CatalogError, open_catalog


def load_settings(options: Namespace) -> Settings:
    """Return the settings from the environment and the command's options. An option overrides the environment.

    Exit with 2 if a setting is wrong. Warn of secrets that other users of this machine can see.
    """
    overrides = {
        name: value for name, value in vars(options).items() if name in Settings.model_fields and value is not None
    }
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:
            fail(f"Conflicting settings: {message}.", EXIT_USAGE)
        name, variables = configuration.environment_variables(str(first["loc"][0]))
        if name in overrides:
            name = option_name(name)
        else:
            environment = configuration.environment()
            name = " or ".join([one for one in variables if environment.get(one)] or variables)
        fail(f"{name} is invalid: {message}. docs/operations.md lists the valid values.", EXIT_USAGE)
    warn_of_exposed_secrets(overrides, settings)
    return settings


def load_catalog(settings: Settings) -> Catalog:
    """Return the catalog of this process. Exit with 2 if the operator's file is wrong."""
    try:
        return open_catalog(configuration.environment(), settings.models)
    except CatalogError as error:
        fail(str(error), EXIT_USAGE)
