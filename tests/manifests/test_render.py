"""Every overlay and every variant of the chart: rendered, held against a real API server, and against what
the programs take.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from allocator import settings as controller_settings
from crier.inspect.gather import OUR_PODS
from crier.inspect.records import ProgramPod
from crier.lab.api.selectors import label_predicate
from crier.lab.kube import Kube
from crier.lab.kube.install import Accounts
from crier.lab.pods import Workloads
from speaker import settings as speaker_settings
from tests.manifests import helm
from tests.manifests.render import MANIFESTS, OVERLAYS, Document, kustomize

CHECKOUT = MANIFESTS.parent
OPERATOR = "monitoring.coreos.com"
"""Kinds of the Prometheus operator, which a bare API server does not know."""

VARIANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "everything": {
        "imagePullSecrets": [{"name": "registry"}],
        "loadBalancerClass": "crier",
        "tls": {
            "minVersion": "VersionTLS12",
            "cipherSuites": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            "controllerMetricsTLSSecret": "one",
            "speakerMetricsTLSSecret": "two",
        },
        "prometheus": {
            "scrapeAnnotations": True,
            "plainMetricsPort": 7472,
            "serviceAccount": "prometheus-k8s",
            "namespace": "monitoring",
            "podMonitor": {"enabled": True, "additionalLabels": {"release": "x"}, "interval": "15s"},
            "prometheusRule": {
                "enabled": True,
                "extraAlerts": [{"alert": "Mine", "expr": "vector(1)"}],
                "configNotLoaded": {"enabled": False},
                "bgpSessionDown": {"labels": {"severity": "page"}},
                "addressPoolUsage": {"excludePools": "test-.*", "thresholds": [{"percent": 60}]},
            },
            "dashboard": {"enabled": True},
        },
        "controller": {
            "replicas": 2,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0}},
            "logLevel": "debug",
            "image": {"repository": "example.org/crier", "tag": "x", "pullPolicy": "Always"},
            "labels": {"a": "b"},
            "podAnnotations": {"a": "b"},
            "tolerations": [{"operator": "Exists"}],
            "priorityClassName": "system-cluster-critical",
            "serviceAccount": {"name": "other", "annotations": {"a": "b"}},
        },
        "speaker": {
            "ignoreExcludeLB": True,
            "wanConfig": True,
            "secretName": "gossip",
            "conflictPolicy": "report",
            "memberlist": {"mlBindPort": 7947, "mlBindAddrOverride": "0.0.0.0"},
            "tolerations": [{"operator": "Exists"}],
            "nodeSelector": {"a": "b"},
            "updateStrategy": {"type": "OnDelete"},
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}, "fsGroup": 1},
            "startupProbe": {"enabled": True, "periodSeconds": 2},
        },
        "networkpolicies": {"enabled": True, "defaultDeny": True, "apiPort": 6443},
    },
    "service monitors": {
        "prometheus": {
            "serviceAccount": "prometheus-k8s",
            "namespace": "monitoring",
            "serviceMonitor": {"enabled": True, "speaker": {"annotations": {"a": "b"}}},
        },
        "frrk8s": {"external": True, "namespace": "frr"},
    },
    "no gossip": {"speaker": {"memberlist": {"enabled": False}, "excludeInterfaces": {"enabled": False}}},
    "only the controller": {"speaker": {"enabled": False}, "crds": {"enabled": False}},
    "only speakers": {"controller": {"enabled": False}, "rbac": {"create": False}},
    "other names": {"fullnameOverride": "lb", "nameOverride": "balancer"},
}


@pytest.fixture(
    scope="session",
    params=[*(f"overlay {name}" for name in OVERLAYS), *(f"chart {name}" for name in VARIANTS)],
)
def documents(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Document, ...]:
    kind, _, name = request.param.partition(" ")
    if kind == "overlay":
        return kustomize(f"overlays/{name}")
    return helm.render(VARIANTS[name], tmp_path_factory.mktemp("chart"))


def pods(documents: tuple[Document, ...]) -> dict[str, dict[str, Any]]:
    """Pod templates' specs by workload, ours alone."""
    return {
        each["spec"]["template"]["metadata"]["labels"].get("component")
        or each["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]: each["spec"][
            "template"
        ]["spec"]
        for each in documents
        if each["kind"] in ("Deployment", "DaemonSet")
    }


def test_the_api_server_takes_all_of_it(
    kube: Kube, accounts: Accounts, documents: tuple[Document, ...]
) -> None:
    """Server-side, strictly: an unknown field or a wrong type is an error, not a warning."""
    assert accounts.speaker.exists()  # the namespace and the kinds are there
    known = [each for each in documents if not each["apiVersion"].startswith(OPERATOR)]
    assert known
    said = kube.kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict",
        "--namespace=metallb-system", "--filename=-",
        stdin="---\n".join(json.dumps(each) + "\n" for each in known),
    )  # fmt: skip
    assert len(said.splitlines()) == len(known), said


def test_containers_are_confined(documents: tuple[Document, ...]) -> None:
    for component, spec in pods(documents).items():
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"]["drop"] == ["ALL"]
            assert not security.get("privileged")
            if component == "controller":
                assert "add" not in security["capabilities"]
                assert spec["securityContext"]["runAsNonRoot"] is True
                assert not spec.get("hostNetwork")
        names = {each["name"]: each for each in spec["containers"]}
        requests = names[component]["resources"]["requests"]
        assert requests.keys() >= {"cpu", "memory"}
        assert "limits" not in names[component]["resources"], "nobody throttles who has to answer in time"
        assert {"livenessProbe", "readinessProbe"} <= names[component].keys()
        assert all("hostPath" not in volume for volume in spec.get("volumes", ()))


FIELDS = {
    "metadata.name": "pod-1",
    "metadata.namespace": "metallb-system",
    "spec.nodeName": "node-1",
    "status.hostIP": "192.0.2.1",
    "status.podIP": "192.0.2.1",
}


def test_programs_take_the_flags_and_variables(documents: tuple[Document, ...]) -> None:
    for component, spec in pods(documents).items():
        container = next(each for each in spec["containers"] if each["name"] == component)
        environ = {
            each["name"]: str(each["value"])
            if "value" in each
            else FIELDS[each["valueFrom"]["fieldRef"]["fieldPath"]]
            for each in container.get("env", ())
        }
        port: dict[str, Any] = container["readinessProbe"]["httpGet"]
        mounts = {each["mountPath"] for each in container.get("volumeMounts", ())}
        if component == "controller":
            assert container["command"] == ["crier-controller"]
            controller = controller_settings.parse(container["args"], environ)
            assert controller.health_port == port["port"]
            assert not controller.metrics_cert_dir or controller.metrics_cert_dir in mounts
            assert controller.leader_elect
        else:
            assert container["command"] == ["crier-speaker"]
            speaker = speaker_settings.parse(container["args"], environ)
            assert (speaker.health_probe_port, "127.0.0.1") == (port["port"], port["host"])
            assert speaker.ml_secret_key_path is None or str(speaker.ml_secret_key_path) in mounts
            assert not speaker.metrics_cert_dir or speaker.metrics_cert_dir in mounts
            named = {each["name"]: each["containerPort"] for each in container["ports"]}
            if speaker.membership:
                assert named["memberlist-tcp"] == named["memberlist-udp"] == speaker.ml_bind_port
            assert named["metricshttps"] == speaker.port
            assert named.get("metrics", 0) == speaker.plain_metrics_port
            assert set(container["securityContext"]["capabilities"]["add"]) >= {"NET_RAW"}


def test_crier_finds_their_pods(documents: tuple[Document, ...]) -> None:
    """The verbs and the status page know controller and speakers by their labels."""
    predicates = [label_predicate(labels) for labels in OUR_PODS]
    found = []
    for document in documents:
        if document["kind"] in ("DaemonSet", "Deployment"):
            template = document["spec"]["template"]
            pod = {
                "metadata": template["metadata"] | {"name": "x", "namespace": "y"},
                "spec": template["spec"],
            }
            assert any(predicate is not None and predicate(pod) for predicate in predicates)
            found.append(ProgramPod.decode(json.dumps(pod).encode()).component)
    assert sorted(found) == sorted(pods(documents)) != []


def test_names_meet(documents: tuple[Document, ...]) -> None:
    """Accounts, roles, Secrets, ConfigMaps referred to are there, or the controller makes them."""
    by_kind: dict[str, set[str]] = {}
    for each in documents:
        by_kind.setdefault(each["kind"], set()).add(each["metadata"]["name"])
    specs = pods(documents)
    made = {
        each["value"]
        for spec in specs.values()
        for each in spec["containers"][0].get("env", ())
        if each["name"] == "METALLB_ML_SECRET_NAME"
    }
    for spec in specs.values():
        if "ServiceAccount" in by_kind:
            assert spec["serviceAccountName"] in by_kind["ServiceAccount"]
        for volume in spec.get("volumes", ()):
            if "configMap" in volume and not volume["configMap"].get("optional"):
                assert volume["configMap"]["name"] in by_kind["ConfigMap"]
            if volume["name"] == "memberlist" and "controller" in specs:
                assert {volume["secret"]["secretName"]} == made
    for each in documents:
        if each["kind"].endswith("RoleBinding"):
            assert each["roleRef"]["name"] in by_kind[each["roleRef"]["kind"]]
            for subject in each["subjects"]:
                if subject["namespace"] == "metallb-system":
                    assert subject["name"] in by_kind["ServiceAccount"]
    if "Deployment" in by_kind and "Role" in by_kind:
        (deployment,) = by_kind["Deployment"]
        granted = [
            name
            for each in documents
            if each["kind"] == "Role"
            for rule in each["rules"]
            if rule["resources"] in (["deployments"], ["secrets"])
            for name in rule.get("resourceNames", ())
        ]
        assert deployment in granted
        assert made <= set(granted)


# ----------------------------------------------------------------------------------------- the chart


def test_the_chart_has_what_the_manifests_have() -> None:
    command = [sys.executable, str(CHECKOUT / "hack" / "chart_files.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run hack/chart_files.py:\n{done.stdout}"


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"bogus": 1}, "additional properties 'bogus' not allowed"),
        ({"speaker": {"memberlist": {"port": 1}}}, "additional properties 'port' not allowed"),
        ({"speaker": {"logLevel": "loud"}}, "at '/speaker/logLevel': value must be one of"),
        ({"speaker": {"frr": {"enabled": True}}}, "speaker.frr.enabled: Crier speaks BGP itself"),
        ({"frrk8s": {"enabled": True}}, "frrk8s.enabled: Crier speaks BGP itself"),
        ({"frrk8s": {"namespace": "x"}}, "frrk8s.namespace: only with frrk8s.external"),
        ({"controller": {"webhookMode": "enabled"}}, "controller.webhookMode: the CRDs refuse"),
        ({"controller": {"webhookMode": "on"}}, "at '/controller/webhookMode': value must be one of"),
        ({"controller": {"strategy": {"type": "RollingUpdate"}}}, "controller.strategy.type: one controller"),
        ({"speaker": {"image": {"repository": "a/metallb/speaker"}}}, "speaker.image.repository: a/metallb/"),
        ({"prometheus": {"metricsPort": "9120"}}, "at '/prometheus/metricsPort': got string, want integer"),
        ({"prometheus": {"metricsPort": 0}}, "at '/prometheus/metricsPort': minimum: got 0, want 1"),
        (
            {"controller": {"replicas": 2}},
            "controller.replicas: several controllers want controller.strategy",
        ),
        ({"prometheus": {"serviceAccount": "x"}}, "prometheus.namespace: where is the service account"),
        ({"prometheus": {"podMonitor": {"enabled": True}}}, "prometheus.serviceAccount: as whom"),
        (
            {"prometheus": {"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}}},
            "prometheus.serviceMonitor.enabled: either this or",
        ),
        (
            {"prometheus": {"prometheusRule": {"addressPoolUsage": {"thresholds": [{"labels": {}}]}}}},
            "missing property 'percent'",
        ),
        ({"networkpolicies": {"apiPort": 0}}, "at '/networkpolicies/apiPort': minimum: got 0, want 1"),
        (
            {"speaker": {"memberlist": {"enabled": False}, "nodeSelector": {"a": "b"}}},
            "speaker.nodeSelector: without speaker.memberlist.enabled",
        ),
        ({"prometheus": {"prometheusRule": {"staleConfig": {"on": 1}}}}, "additional properties 'on' not"),
        ({"speaker": {"readinessProbe": {"port": 1}}}, "speaker.readinessProbe.port: both probes"),
    ],
)
def test_what_the_chart_refuses(values: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    done = helm.template(values, tmp_path)
    assert done.returncode != 0
    assert complaint in done.stderr


def test_alerts_are_chosen_one_by_one(tmp_path: Path) -> None:
    def alerts(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
        documents = helm.render({"prometheus": {"prometheusRule": {"enabled": True, **values}}}, tmp_path)
        (rule,) = (each for each in documents if each["kind"] == "PrometheusRule")
        return {each["alert"]: each for group in rule["spec"]["groups"] for each in group["rules"]}

    usual = alerts({})
    source = yaml.safe_load((MANIFESTS / "overlays" / "prometheus" / "rules.yaml").read_text())
    assert list(usual.values()) == [rule for group in source["spec"]["groups"] for rule in group["rules"]]
    chosen = alerts(
        {
            "configNotLoaded": {"enabled": False},
            "addressPoolUsage": {"enabled": False},
            "addressPoolExhausted": {"excludePools": "a|b"},
            "bgpSessionDown": {"labels": {"severity": "page"}},
        }
    )
    gone = {"MetalLBConfigNotLoaded", *(f"MetalLBAddressPoolUsage{n}Percent" for n in (75, 85, 95))}
    assert usual.keys() - chosen.keys() == gone
    assert 'in_use_total{pool!~"a|b"} >=' in chosen["MetalLBAddressPoolExhausted"]["expr"]
    assert chosen["MetalLBBGPSessionDown"]["labels"] == {"severity": "page"}
    changed = {"MetalLBAddressPoolExhausted", "MetalLBBGPSessionDown"}
    assert {name for name in chosen if chosen[name] != usual[name]} == changed
    own = [{"percent": 60, "labels": {"severity": "page"}}, {"percent": 90}]
    chosen = alerts({"addressPoolUsage": {"thresholds": own, "excludePools": "rack-75"}})
    percents = [name for name in chosen if name.startswith("MetalLBAddressPoolUsage")]
    assert percents == ["MetalLBAddressPoolUsage60Percent", "MetalLBAddressPoolUsage90Percent"]
    assert chosen[percents[0]] == {
        "alert": percents[0],
        "expr": '(metallb_allocator_addresses_in_use_total{pool!~"rack-75"} / on (pool) '
        "metallb_allocator_addresses_total) * 100 > 60",
        "labels": {"severity": "page"},
        "annotations": {"summary": "Pool {{ $labels.pool }} is more than 60 % in use"},
    }


def test_monitors_find_what_they_scrape(tmp_path: Path) -> None:
    """Prometheus's monitors select the pods, or Services that do, by their labels and the port's name."""
    for kind, monitor in (("PodMonitor", "podMonitor"), ("ServiceMonitor", "serviceMonitor")):
        scraper = {"serviceAccount": "prometheus-k8s", "namespace": "monitoring"}
        documents = helm.render({"prometheus": {**scraper, monitor: {"enabled": True}}}, tmp_path)
        templates = {
            each["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]: each["spec"][
                "template"
            ]
            for each in documents
            if each["kind"] in ("Deployment", "DaemonSet")
        }
        found = set()
        for each in documents:
            if each["kind"] != kind:
                continue
            wanted, ports = each["spec"]["selector"]["matchLabels"], set()
            endpoints = each["spec"].get("podMetricsEndpoints") or each["spec"]["endpoints"]
            if kind == "ServiceMonitor":
                (service,) = (
                    other
                    for other in documents
                    if other["kind"] == "Service" and wanted.items() <= other["metadata"]["labels"].items()
                )
                assert each["spec"]["namespaceSelector"] == {"matchNames": ["metallb-system"]}
                wanted = service["spec"]["selector"]
                ports = {port["name"] for port in service["spec"]["ports"]}
                assert {port["targetPort"] for port in service["spec"]["ports"]} == ports
            (component,) = (
                name
                for name, template in templates.items()
                if wanted.items() <= template["metadata"]["labels"].items()
            )
            found.add(component)
            (container,) = templates[component]["spec"]["containers"]
            assert [endpoint["scheme"] for endpoint in endpoints] == ["https"]
            for name in {endpoint["port"] for endpoint in endpoints} | ports:
                assert name in {port["name"] for port in container["ports"]}
        assert found == {"controller", "speaker"}
        (role,) = (each for each in documents if each["metadata"]["name"] == "metallb-prometheus"
                   and each["kind"] == "Role")  # fmt: skip
        assert {"pods", "services", "endpoints"} <= set(role["rules"][0]["resources"])


def test_a_release_of_metallbs_chart_is_replaced_in_place(tmp_path: Path) -> None:
    """Its names, selectors and gossip Secret: an upgrade rolls over the same DaemonSet, node by node."""
    documents = helm.render({}, tmp_path)
    by_kind = {each["kind"]: each for each in documents}
    for kind, component in (("Deployment", "controller"), ("DaemonSet", "speaker")):
        assert by_kind[kind]["metadata"]["name"] == f"metallb-{component}"
        assert by_kind[kind]["spec"]["selector"]["matchLabels"] == {
            "app.kubernetes.io/name": "metallb",
            "app.kubernetes.io/instance": "metallb",
            "app.kubernetes.io/component": component,
        }
    environ = {
        each["name"]: each.get("value")
        for each in by_kind["DaemonSet"]["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert (
        environ["METALLB_ML_LABELS"] == "app.kubernetes.io/name=metallb,app.kubernetes.io/component=speaker"
    )
    volumes = by_kind["DaemonSet"]["spec"]["template"]["spec"]["volumes"]
    assert volumes[0]["secret"]["secretName"] == "metallb-memberlist"


def test_the_same_workloads_by_kustomize_and_by_chart(tmp_path: Path) -> None:
    """Command, flags, security, mounts: what the lab runs from one it would run from the other."""
    one, other = pods(kustomize("base")), pods(helm.render({}, tmp_path))
    for component in ("controller", "speaker"):
        (left,), (right,) = one[component]["containers"], other[component]["containers"]
        assert left["command"] == right["command"]
        assert left["securityContext"] == right["securityContext"]
        assert left["resources"] == right["resources"]
        assert left.get("volumeMounts") == right.get("volumeMounts")
        assert left["livenessProbe"]["httpGet"] == right["livenessProbe"]["httpGet"]
        assert one[component]["securityContext"] == other[component]["securityContext"]


def test_workloads_are_found_for_the_lab() -> None:
    found = Workloads(kustomize("base"), Path("/"))
    assert found.template("speaker")["hostNetwork"] is True
    assert found.template("controller")["serviceAccountName"] == "controller"


def test_schema_is_about_these_values() -> None:
    values = yaml.safe_load((helm.CHART / "values.yaml").read_text(encoding="utf-8"))
    schema = json.loads((helm.CHART / "values.schema.json").read_text(encoding="utf-8"))
    assert schema["additionalProperties"] is False
    assert schema["properties"].keys() == {*values, "global"}
