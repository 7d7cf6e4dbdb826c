"""Parse the response of `/metrics`."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str) -> Samples:
    """Return the value of each sample, by its name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(text: str, name: str, **labels: str) -> float:
    """Return the sum of the samples with this name and at least these labels.

    Only their lines are parsed, because tests poll it.
    """
    wanted = labels.items()
    found = samples("".join(line for line in text.splitlines(keepends=True) if line.startswith(name)))
    return sum(number for (one, has), number in found.items() if one == name and wanted <= dict(has).items())
