"""The manifests: what they let the controller do is what it does, and they say what MetalLB's say."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
import yaml

from allocator.campaign import Campaign
from allocator.fence import Fence
from allocator.settings import parse
from allocator.webhook.admission import RULES
from allocator.webhook.service import CONVERT
from crier.kube import resources
from crier.kube.client import Api
from crier.kube.resources import CONFIGURATION_STATES, IP_ADDRESS_POOLS, Resource
from crier.kube.transport import Stream, Transport, plain_configuration
from tests.allocator.clusters import SYSTEM, open_cluster, open_controller

MANIFESTS = Path(__file__).parents[2] / "manifests"


@pytest.fixture(scope="module")
def base() -> list[dict[str, Any]]:
    """What `kubectl apply -k manifests/base` would send."""
    return build("base")


def build(folder: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        ["kubectl", "kustomize", str(MANIFESTS / folder)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def find(base: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = [each for each in base if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


# ----------------------------------------------------------------------------------------------- CRDs

COLUMNS = {
    "IPAddressPool": ["Auto Assign", "Avoid Buggy IPs", "Addresses"],
    "L2Advertisement": ["IPAddressPools", "IPAddressPool Selectors", "Interfaces", "Node Selectors"],
    "BGPAdvertisement": ["IPAddressPools", "IPAddressPool Selectors", "Peers", "Node Selectors"],
    "BGPPeer": ["Address", "ASN", "BFD Profile", "Multi Hops"],
    "BFDProfile": ["Passive Mode", "Transmit Interval", "Receive Interval", "Multiplier"],
    "Community": [],
    "ServiceL2Status": ["Allocated Node", "Service Name", "Service Namespace"],
    "ServiceBGPStatus": ["Node", "Service Name", "Service Namespace"],
    "ConfigurationState": ["Result", "ErrorSummary", "Age"],
}


def test_the_nine_kinds(base: list[dict[str, Any]]) -> None:
    crds = {
        each["spec"]["names"]["kind"]: each for each in base if each["kind"] == "CustomResourceDefinition"
    }
    assert crds.keys() == COLUMNS.keys()
    known = {each.kind: each for each in vars(resources).values() if isinstance(each, Resource)}
    for kind, crd in crds.items():
        resource = known[kind]
        assert crd["metadata"]["name"] == f"{resource.plural}.metallb.io"
        assert (crd["spec"]["group"], crd["spec"]["scope"]) == (resource.group, "Namespaced")
        versions = {each["name"]: each for each in crd["spec"]["versions"]}
        assert versions[resource.version]["storage"]
        for version in versions.values():
            assert version["served"]
            assert version["subresources"] == {"status": {}}
            assert [each["name"] for each in version.get("additionalPrinterColumns", ())] == COLUMNS[kind]
    assert [each["name"] for each in crds["BGPPeer"]["spec"]["versions"]] == ["v1beta1", "v1beta2"]


def test_every_field_we_read_is_in_the_schema(base: list[dict[str, Any]]) -> None:
    """Or the API server would drop it before we see it."""
    from crier.kube.model import advertisement, pool

    for kind, wire in [("IPAddressPool", pool._SpecWire), ("L2Advertisement", advertisement._SpecWire)]:
        crd = find(base, "CustomResourceDefinition", f"{kind.lower()}s.metallb.io")
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        assert schema.keys() == set(wire.__struct_encode_fields__)
        if kind == "IPAddressPool":
            allocation = schema["serviceAllocation"]["properties"]
            assert allocation.keys() == set(pool._AllocationWire.__struct_encode_fields__)


# ---------------------------------------------------------------------------------------- deployment


@pytest.mark.parametrize(("kind", "name"), [("Deployment", "controller"), ("DaemonSet", "speaker")])
def test_names_that_others_depend_on(base: list[dict[str, Any]], kind: str, name: str) -> None:
    found = find(base, kind, name)
    labels = {"app": "metallb", "component": name}
    assert found["metadata"]["namespace"] == SYSTEM
    assert found["spec"]["selector"]["matchLabels"] == labels
    template = found["spec"]["template"]
    assert template["metadata"]["labels"] == labels
    assert template["spec"]["serviceAccountName"] == name
    (container,) = template["spec"]["containers"]
    assert container["name"] == name
    assert ("metricshttps", 9120) in [(each["name"], each["containerPort"]) for each in container["ports"]]
    for probe in ("livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == 17472
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]


def test_the_controller_understands_its_own_manifest(base: list[dict[str, Any]]) -> None:
    (container,) = find(base, "Deployment", "controller")["spec"]["template"]["spec"]["containers"]
    fields = {"metadata.namespace": SYSTEM, "metadata.name": "controller-0"}
    environ = {
        each["name"]: each.get("value") or fields[each["valueFrom"]["fieldRef"]["fieldPath"]]
        for each in container["env"]
    }
    found = parse(container["args"], environ)
    assert (found.namespace, found.pod_name, found.metrics_port) == (SYSTEM, "controller-0", 9120)
    assert (found.ml_secret_name, found.deployment) == ("memberlist", "controller")
    assert found.leader_elect


def test_two_controllers(base: list[dict[str, Any]]) -> None:
    """The overlay changes the Deployment of the controller and keeps one of the two up, and nothing else."""
    built = build("overlays/ha")
    budget = find(built, "PodDisruptionBudget", "controller")
    assert budget["spec"]["minAvailable"] == 1
    assert budget["spec"]["selector"]["matchLabels"] == {"app": "metallb", "component": "controller"}
    built.remove(budget)
    (deployment,) = [each for each in built if each not in base]
    assert (deployment["kind"], deployment["metadata"]["name"]) == ("Deployment", "controller")
    assert deployment["spec"]["replicas"] == 2
    assert deployment["spec"]["strategy"]["type"] == "RollingUpdate"
    assert len(built) == len(base)


def test_webhooks(base: list[dict[str, Any]]) -> None:
    """The overlay registers what the program answers, under MetalLB's names."""
    built = build("overlays/webhooks")
    configured = find(built, "ValidatingWebhookConfiguration", "metallb-webhook-configuration")["webhooks"]
    assert {each["clientConfig"]["service"]["path"] for each in configured} == RULES.keys()
    for each in configured:
        ((rule,), place) = each["rules"], each["clientConfig"]["service"]
        asked = RULES[place["path"]]
        assert rule["resources"] == [asked.resource.plural]
        assert rule["apiVersions"] == [asked.resource.version]
        assert set(rule["operations"]) == set(asked.operations)
        assert (each["failurePolicy"], each["sideEffects"]) == ("Fail", "None")
        assert (place["name"], place["namespace"]) == ("metallb-webhook-service", SYSTEM)
    crd = find(built, "CustomResourceDefinition", "bgppeers.metallb.io")
    assert crd["spec"]["conversion"]["webhook"]["clientConfig"]["service"]["path"] == CONVERT
    (container,) = find(built, "Deployment", "controller")["spec"]["template"]["spec"]["containers"]
    environ = {"METALLB_NAMESPACE": SYSTEM, "METALLB_POD_NAME": "controller-0"}
    found = parse(container["args"], environ)
    assert found.webhook_mode == "enabled"
    assert ("webhook-server", found.webhook_port) in [
        (each["name"], each["containerPort"]) for each in container["ports"]
    ]
    (port,) = find(built, "Service", found.webhook_service)["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (443, found.webhook_port)
    assert find(built, "Secret", found.webhook_secret)
    (container,) = find(base, "Deployment", "controller")["spec"]["template"]["spec"]["containers"]
    assert parse(container["args"], environ).webhook_mode == "disabled"


def test_every_service_account_and_role_meets(base: list[dict[str, Any]]) -> None:
    for binding in (each for each in base if each["kind"].endswith("RoleBinding")):
        find(base, binding["roleRef"]["kind"], binding["roleRef"]["name"])
        for subject in binding["subjects"]:
            assert subject["namespace"] == SYSTEM
            find(base, "ServiceAccount", subject["name"])


# ----------------------------------------------------------------------------------------------- RBAC


@dataclass(frozen=True)
class Asked:
    verb: str
    group: str
    resource: str
    """With its subresource."""
    namespace: str
    name: str


@dataclass
class Recording(Transport):
    """Notes every request."""

    url: str
    asked: set[Asked] = field(default_factory=set)

    def __post_init__(self) -> None:
        Transport.__init__(self, plain_configuration(self.url))

    def request(self, method: str, path: str, **options: Any) -> bytes:
        self.asked.add(asked(method, path))
        return super().request(method, path, **options)

    def stream(self, path: str, *, query: Mapping[str, str], timeout: float) -> Stream:
        self.asked.add(asked("WATCH", path))
        return super().stream(path, query=query, timeout=timeout)


def asked(method: str, path: str) -> Asked:
    """As the API server's authorizer reads a request."""
    parts = path.strip("/").split("/")
    group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    name = rest[1] if len(rest) > 1 else ""
    verb = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "WATCH": "watch"}.get(
        method, "get" if name else "list"
    )
    return Asked(verb, group, "/".join([rest[0], *rest[2:]]), namespace, name)


def allows(rules: list[dict[str, Any]], question: Asked) -> bool:
    return any(
        question.group in rule["apiGroups"]
        and question.resource in rule["resources"]
        and question.verb in rule["verbs"]
        and ("resourceNames" not in rule or question.name in rule["resourceNames"])
        for rule in rules
    )


async def test_the_controller_asks_for_nothing_it_may_not(base: list[dict[str, Any]]) -> None:
    everywhere = find(base, "ClusterRole", "metallb-system:controller")["rules"]
    at_home = find(base, "Role", "controller")["rules"]
    async with open_cluster() as cluster:
        transport = Recording(cluster.api.transport.host)
        campaign = Campaign(Api(transport), Fence(), namespace=SYSTEM, identity="controller-0")
        async with trio.open_nursery() as nursery, open_controller(cluster, api=Api(transport), secret=True):
            nursery.start_soon(campaign.run)
            await campaign.elected.wait()
            await cluster.add_pool("one", "192.0.2.0/32")
            await cluster.add_service("first")
            await cluster.until(lambda: cluster.ips("first"))
            await cluster.add_service("second")
            await cluster.until(lambda: cluster.told("AllocationFailed"))
            await cluster.add_pool("bad", "192.0.2.0/32")
            await cluster.until(lambda: cluster.told("ConfigurationError"))
            await cluster.api.delete(IP_ADDRESS_POOLS, "bad", namespace=SYSTEM)
            await cluster.until(lambda: cluster.state().get("result") == "Valid")
            await cluster.api.delete(CONFIGURATION_STATES, "controller", namespace=SYSTEM)
            await cluster.until(lambda: cluster.state().get("result") == "Valid")
            await cluster.still("first")
            await campaign.stop()
            nursery.cancel_scope.cancel()
        refused = {
            question
            for question in transport.asked
            if not allows(everywhere, question)
            and not (question.namespace == SYSTEM and allows(at_home, question))
        }
        assert refused == set()
        seen = {(each.verb, each.resource) for each in transport.asked}
        assert {
            ("watch", "services"),
            ("update", "services/status"),
            ("update", "ipaddresspools/status"),
            ("patch", "configurationstates/status"),
            ("create", "events"),
            ("create", "secrets"),
            ("create", "leases"),
            ("update", "leases"),
        } <= seen, "the test did not get far enough to prove anything"
