"""Check docs/operations.md, .env.example, the Dockerfile and deploy/ against the code.

This includes settings, metrics, the dashboard, the alert rules, and the files for Docker Compose and Kubernetes.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import promql_parser
import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client.parser import text_string_to_metric_families

from gateway.settings import Settings, environment_variables
from providers.catalog.endpoints import variables_of
from providers.catalog.schema import shipped_rows
from tests.deploy_schemas import KINDS, compose_errors_of, errors_of
from tests.env_example import FILE, example
from tests.in_loop_server import serving
from tests.programs import program
from tests.settings_table import DOCUMENT, descriptions_of, split_document, updated_document

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
TEXT = DOCUMENT.read_text(encoding="utf-8")
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}
HANDOVER_S = 10
"""The time of a shutdown in addition to the drain: closing sockets, handing over turns, and uvicorn's shutdown."""


def test_it_begins_with_what_an_operator_does_and_ends_with_tables() -> None:
    """The first thing is a table of tasks, whose links lead to sections. The last two sections are the long tables."""
    begin = TEXT.partition("\n## ")[0]
    headings = re.findall(r"^## (.*)$", TEXT, re.MULTILINE)
    assert headings[-2:] == ["Metrics", "Settings"]
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    named = set(re.findall(r"\]\(#([\w-]+)\)", begin))
    assert len(named) > 12
    assert named <= anchors


def test_the_settings_are_those_of_the_code() -> None:
    """`make settings` has been run, and every setting has a description."""
    assert updated_document() == TEXT, "run make settings"
    descriptions = descriptions_of(split_document(TEXT)[1])
    assert {environment_variables(name)[1][0] for name in Settings.model_fields} == set(descriptions)
    assert [variable for variable, description in descriptions.items() if not description] == []


def test_the_example_of_an_env_file_has_every_variable() -> None:
    """`make settings` has been run. The file sets nothing. Docker Compose passes the operator's `.env` to both
    instances."""
    text = FILE.read_text(encoding="utf-8")
    assert example() == text, "run make settings"
    named = set(re.findall(r"^# ([A-Z][A-Z0-9_]*)=", text, re.MULTILINE))
    rows = shipped_rows().providers.values()
    assert (
        set().union(*map(variables_of, rows)) | {environment_variables(name)[1][0] for name in Settings.model_fields}
        <= named
    )
    assert [line for line in text.splitlines() if line and not line.startswith("#")] == []
    (compose,) = documents("docker-compose.yml")
    for name in ("turnwire-1", "turnwire-2"):
        assert compose["services"][name]["env_file"] == [{"path": "../.env", "required": False}]
        assert not set(compose["services"][name]["environment"]) & set().union(*map(variables_of, rows))


async def metrics() -> dict[str, tuple[str, ...]]:
    """Return the metrics of a gateway: their names as the document writes them, each with the names of its samples."""
    async with serving() as server, httpx2.AsyncClient() as http:
        text = (await http.get(f"{server.url}/metrics")).text
    shown: dict[str, tuple[str, ...]] = {}
    for family in text_string_to_metric_families(text):
        suffixes = SUFFIXES.get(family.type, ("",))
        name = family.name + (suffixes[0] if family.type == "counter" else "")
        shown[name] = tuple(family.name + suffix for suffix in suffixes)
    return shown


async def test_every_metric_is_documented() -> None:
    """The table of metrics has each of the gateway's metrics, and no other."""
    named = set(re.findall(r"^\| `(turnwire_\w+)`", TEXT, re.MULTILINE))
    assert {name for name in await metrics() if name.startswith("turnwire_")} == named


async def test_the_dashboard_uses_existing_metrics() -> None:
    """Each metric in a panel is in the output of `/metrics`, and each of the gateway's metrics is in a panel.

    Each panel has its own id, a title and a query.
    """
    dashboard = json.loads((DEPLOY / "grafana.json").read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    named = set(re.findall(r"\b((?:turnwire|process)_\w+)", " ".join(expressions)))
    known = await metrics()
    samples = {sample for names in known.values() for sample in names}
    assert named <= samples
    unseen = {name for name, names in known.items() if name.startswith("turnwire_") and not named & set(names)}
    assert unseen == set()
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids)) > 10
    assert all(panel["targets"] and panel["title"] for panel in dashboard["panels"])


def test_the_dashboard_uses_existing_labels() -> None:
    """The labels that an expression groups or filters by are documented for one of its metrics, or are Prometheus's own.

    A legend uses no other labels.
    """
    rows = re.findall(r"^\| `(turnwire_\w+)` \| ([^|]*)\|", TEXT, re.MULTILINE)
    labels = {name: set(re.findall(r"`(\w+)`", cell)) for name, cell in rows}
    dashboard = json.loads((DEPLOY / "grafana.json").read_text(encoding="utf-8"))
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            expression = target["expr"]
            named = re.findall(r"turnwire_\w+", expression)
            known = {"le", "instance", "job"}.union(
                *(labels[re.sub(r"_(bucket|count|sum)$", "", name)] for name in named)
            )
            grouped = {
                label.strip()
                for group in re.findall(r"\b(?:by|without) *\(([^)]*)\)", expression)
                for label in group.split(",")
            }
            chosen = set(re.findall(r"[{,] *(\w+) *(?:=|!=|=~|!~)", expression))
            assert grouped | chosen <= known, expression
            legend = set(re.findall(r"{{ *(\w+) *}}", target.get("legendFormat", "")))
            assert legend <= (grouped or known), expression


def alert_rules() -> list[dict[str, Any]]:
    """Return the rules of deploy/alerts.yml."""
    (document,) = documents("alerts.yml")
    return [rule for group in document["groups"] for rule in group["rules"]]


async def test_the_alert_rules_use_existing_metrics_and_labels() -> None:
    """A PromQL parser accepts each expression. Each metric in it is in the output of `/metrics`, except `up`, which
    Prometheus adds. Each label is documented for one of its metrics, or is Prometheus's own. Annotations use no other
    labels. Each rule has its own name, a severity, a summary and a description."""
    samples = {sample for names in (await metrics()).values() for sample in names}
    rows = re.findall(r"^\| `(turnwire_\w+)` \| ([^|]*)\|", TEXT, re.MULTILINE)
    labels = {name: set(re.findall(r"`(\w+)`", cell)) for name, cell in rows}
    rules = alert_rules()
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 5
    for rule in rules:
        named: set[str] = set()
        used: set[str] = set()

        def visit(node: object, named: set[str] = named, used: set[str] = used) -> None:
            if isinstance(node, promql_parser.VectorSelector):
                named.add(str(node.name))
                used.update(matcher.name for matcher in node.matchers.matchers)
            elif isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
                used.update(node.modifier.labels)

        promql_parser.walk(promql_parser.parse(rule["expr"]), visit)
        assert named
        assert named <= samples | {"up"}, rule["alert"]
        known = {"le", "instance", "job"}.union(
            *(labels.get(re.sub(r"_(bucket|count|sum)$", "", name), set()) for name in named)
        )
        assert used <= known, rule["alert"]
        assert rule["labels"]["severity"] in {"critical", "warning"}
        shown = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        assert shown <= used | ({"instance", "job"} if "by" not in rule["expr"] else set()), rule["alert"]
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]


def test_every_alert_rule_fires() -> None:
    """Prometheus's own tool accepts the rules, and each of them fires for the series in tests/alerts.test.yml."""
    cases = ROOT / "tests" / "alerts.test.yml"
    (case,) = yaml.safe_load(cases.read_text(encoding="utf-8"))["tests"]
    fired = {
        name
        for sample in case["promql_expr_test"][0]["exp_samples"]
        for name in re.findall(r'alertname="(\w+)"', sample["labels"])
    }
    assert fired == {rule["alert"] for rule in alert_rules()}
    promtool = program("promtool")
    for arguments in (("check", "rules", str(DEPLOY / "alerts.yml")), ("test", "rules", str(cases))):
        checked = subprocess.run([promtool, *arguments], capture_output=True, text=True, timeout=60, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_images_base_is_pinned() -> None:
    """Both stages have the same base, pinned by a digest, and the build fetches no syntax image.

    The page names the command that prints the current digest.
    """
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    bases = re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.13-slim@sha256:[0-9a-f]{64}", bases[0])
    assert "syntax=" not in dockerfile
    assert "imagetools inspect" in TEXT


def documents(path: str) -> Iterator[dict[str, Any]]:
    """Yield the YAML documents of a file."""
    yield from yaml.safe_load_all((DEPLOY / path).read_text(encoding="utf-8"))


def known_variables() -> set[str]:
    """Return the environment variables of all settings."""
    return {variable for name in Settings.model_fields for variable in environment_variables(name)[1]}


def test_the_manifests_are_valid() -> None:
    """Each Kubernetes object and the Compose file are valid by their schemas. A field with a wrong name or type isn't."""
    paths = sorted((DEPLOY / "k8s").iterdir())
    found = [one for path in paths for one in documents(f"k8s/{path.name}")]
    assert [error for one in found for error in errors_of(one)] == []
    assert {one["kind"] for one in found} == set(KINDS)
    (deployment,) = (one for one in found if one["kind"] == "Deployment")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    container["readinesProbe"] = container.pop("readinessProbe")
    deployment["spec"]["replicas"] = "two"
    assert [error.partition(":")[0] for error in errors_of(deployment)] == [
        "spec.replicas",
        "spec.template.spec.containers.0",
    ]
    (compose,) = documents("docker-compose.yml")
    assert compose_errors_of(compose) == []
    compose["services"]["redis"]["comand"] = compose["services"]["redis"].pop("command")
    assert [error.partition(":")[0] for error in compose_errors_of(compose)] == ["services.redis"]


def test_the_autoscaler_scales_the_deployment() -> None:
    """The autoscaler names the deployment, keeps at least as many instances, and counts in a resource that it requests."""
    (scaler,) = documents("k8s/hpa.yaml")
    deployment = next(one for one in documents("k8s/turnwire.yaml") if one["kind"] == "Deployment")
    target = scaler["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
    assert scaler["spec"]["minReplicas"] == deployment["spec"]["replicas"]
    (metric,) = scaler["spec"]["metrics"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    requested = container["resources"]["requests"][metric["resource"]["name"]]
    cores = int(requested.removesuffix("m")) / 1000 * metric["resource"]["target"]["averageUtilization"] / 100
    assert 0.5 <= cores < 0.8, "one instance uses one core at most"
    assert scaler["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] >= 300


def test_compose_runs_two_instances_on_one_redis_and_one_archive() -> None:
    """Both instances are behind nginx, whose configuration is deploy/nginx.conf and whose port is open on loopback only.

    The instances stop within their grace period and trust only the network of this Compose file. Redis keeps its data
    on disk and evicts none. PostgreSQL keeps its data in a volume, and its port isn't published.
    """
    (compose,) = documents("docker-compose.yml")
    services = compose["services"]
    assert set(services) == {"turnwire-1", "turnwire-2", "proxy", "redis", "postgres"}
    account = services["postgres"]["environment"]
    for name in ("turnwire-1", "turnwire-2"):
        environment = services[name]["environment"]
        assert {one for one in environment if one.startswith("TURNWIRE_")} <= known_variables()
        assert environment["TURNWIRE_STORE"] == "redis://redis:6379"
        assert environment["TURNWIRE_ARCHIVE"] == (
            f"postgresql://{account['POSTGRES_USER']}:{account['POSTGRES_PASSWORD']}@postgres/{account['POSTGRES_DB']}"
        )
        assert int(services[name]["stop_grace_period"][:-1]) > float(environment["TURNWIRE_DRAIN_S"]) + HANDOVER_S
        assert f"server {name}:8000" in (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
        assert environment["TURNWIRE_TRUSTED_PROXIES"] == compose["networks"]["default"]["ipam"]["config"][0]["subnet"]
    assert services["proxy"]["volumes"] == ["./nginx.conf:/etc/nginx/conf.d/default.conf:ro"]
    assert all(port.startswith("127.0.0.1:") for port in services["proxy"]["ports"]), (
        "auth is off, so only loopback may be published"
    )
    redis = " ".join(services["redis"]["command"])
    for setting in ("--appendonly yes", "--appendfsync everysec", "--maxmemory-policy noeviction"):
        assert setting in redis
    assert "ports" not in services["postgres"]
    # While the image creates the database, its server listens on a socket file only: over TCP it isn't ready yet.
    assert "--host" in services["postgres"]["healthcheck"]["test"]
    assert {volume.partition(":")[0] for name in ("redis", "postgres") for volume in services[name]["volumes"]} == set(
        compose["volumes"]
    )
    named = {name for service in services.values() for name in service.get("depends_on", [])}
    assert named <= set(services)


def test_kubernetes_waits_for_the_drain() -> None:
    """Probes use existing paths, selectors match, SIGTERM is sent after the endpoint is removed, and the kill after the
    drain."""
    objects = {one["kind"]: one for one in documents("k8s/turnwire.yaml")}
    assert {kind: one["apiVersion"] for kind, one in objects.items()} == {
        "Deployment": "apps/v1",
        "ConfigMap": "v1",
        "Service": "v1",
        "PodDisruptionBudget": "policy/v1",
    }
    pod = objects["Deployment"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    pause_s = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
    variables = objects["ConfigMap"]["data"]
    assert set(variables) <= known_variables()
    assert all(isinstance(value, str) for value in variables.values())
    drain_s = float(variables["TURNWIRE_DRAIN_S"])
    assert pod["spec"]["terminationGracePeriodSeconds"] > pause_s + drain_s + HANDOVER_S
    readiness = container["readinessProbe"]
    assert pause_s >= readiness["periodSeconds"] * readiness["failureThreshold"]
    assert readiness["httpGet"]["path"] == "/ready"
    assert {container[probe]["httpGet"]["path"] for probe in ("livenessProbe", "startupProbe")} == {"/health"}
    labels = pod["metadata"]["labels"]
    for selector in (
        objects["Deployment"]["spec"]["selector"]["matchLabels"],
        objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        objects["Service"]["spec"]["selector"],
    ):
        assert selector.items() <= labels.items()
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": Settings.model_fields["port"].default}
    sources = {kind: source["name"] for one in container["envFrom"] for kind, source in one.items()}
    assert sources["configMapRef"] == objects["ConfigMap"]["metadata"]["name"]


def test_the_ingress_has_tls_and_blocks_the_operators_paths() -> None:
    """The ingress has TLS for its host, leads to the service of the deployment, and doesn't buffer. Its bounds on bodies and
    on time are above those of the settings. The operator's paths lead to a service that selects no pods."""
    ingress, blocked = documents("k8s/ingress.yaml")
    assert (ingress["apiVersion"], ingress["kind"]) == ("networking.k8s.io/v1", "Ingress")
    (rule,) = ingress["spec"]["rules"]
    (tls,) = ingress["spec"]["tls"]
    assert tls["hosts"] == [rule["host"]]
    assert tls["secretName"]
    service = next(one for one in documents("k8s/turnwire.yaml") if one["kind"] == "Service")
    backends = {path["path"]: path["backend"]["service"] for path in rule["http"]["paths"]}
    assert all(path["pathType"] == "Prefix" for path in rule["http"]["paths"])
    assert backends["/"]["name"] == service["metadata"]["name"]
    assert backends["/"]["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}
    assert set(backends) == {"/", "/metrics", "/v1/admin"}
    assert {backends[path]["name"] for path in ("/metrics", "/v1/admin")} == {blocked["metadata"]["name"]}
    assert "selector" not in blocked["spec"]
    annotations = {
        name.removeprefix("nginx.ingress.kubernetes.io/"): value
        for name, value in ingress["metadata"]["annotations"].items()
    }
    assert all(isinstance(value, str) for value in annotations.values())
    assert annotations["proxy-buffering"] == "off"
    assert int(annotations["proxy-body-size"][:-1]) * 2**20 > Settings.model_fields["body_bytes"].default
    assert int(annotations["proxy-read-timeout"]) > Settings.model_fields["turn_timeout_s"].default


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]*)(?:#[\w-]*)?\)", TEXT)) - {""}))
def test_linked_files_exist(target: str) -> None:
    """Each linked file exists."""
    assert (DOCUMENT.parent / target).exists()


@pytest.mark.parametrize(("path", "anchor"), sorted(set(re.findall(r"\]\((\w+\.md)#([\w-]+)\)", TEXT))))
def test_linked_headings_exist(path: str, anchor: str) -> None:
    """Each link into a document leads to one of its headings."""
    headings = re.findall(r"^#+ (.*)$", (DOCUMENT.parent / path).read_text(encoding="utf-8"), re.MULTILINE)
    assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
