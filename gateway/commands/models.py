"""`turnwire models`: list the models that can be used here, and what the others need."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from gateway.commands.configuration import load_catalog, load_settings
from gateway.commands.table import format_table
from providers.catalog.costs import per_million
from providers.model_info import ModelInfo

HELP = "list the models that are ready to use, and what the others need"
_COMMON_FEATURES = {"chat", "streaming"}


def add_options(parser: ArgumentParser) -> None:
    """Add no options: this command has none."""


def run(options: Namespace) -> None:
    """Print the tables of models and providers. Exit with 2 if a setting or the operator's file is wrong."""
    settings = load_settings(options)
    catalog = load_catalog(settings)
    default = settings.default_model or catalog.default_model
    rows = [("MODEL", "PROVIDER", "CONTEXT", "USD IN / OUT", "FEATURES", "STATUS")]
    for model in catalog.models(per_million):
        route = catalog.find(model.id)[0]
        missing = catalog.missing(route)
        model_names = f"{model.id} (default)" if default in (model.id, *model.aliases) else model.id
        model_names += f" = {', '.join(model.aliases)}" if model.aliases else ""
        can = " ".join(feature for feature in model.features if feature not in _COMMON_FEATURES)
        status = f"needs {missing}" if missing else "ready"
        status += ", legacy" if model.legacy else ""
        rows.append((model_names, model.type, _tokens(model), _price(model), can, status))
    print("\n".join(format_table(rows)))
    print("\nPrices are per million tokens. Any other model of a provider is available as PROVIDER/MODEL:\n")
    providers = [("PROVIDER", "NAME", "STATUS")]
    for name, row, missing in sorted(catalog.providers(), key=lambda one: bool(one[2])):
        # PROVIDER:VARIABLE is a provider that is listed already, with another key for some of the operator's models.
        if ":" not in name and row.dialect != "demo":
            providers.append((name, row.title, f"needs {missing}" if missing else "ready"))
    print("\n".join(format_table(providers)))
    print("\nturnwire check MODEL runs one tiny turn with a model.")


def _tokens(model: ModelInfo) -> str:
    size = model.context_window
    if size is None:
        return "-"
    return f"{size / 1_000_000:.3g}M" if size >= 1_000_000 else f"{size // 1000}k"


def _price(model: ModelInfo) -> str:
    price = model.price
    return f"{price['input']} / {price['output']}" if price else "-"
