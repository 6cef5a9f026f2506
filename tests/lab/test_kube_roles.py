"""Controller and planners on a real API server, each as its service account with the roles of manifests/base.

A permission that is missing fails what needs it; one that nobody uses is named at the end.
"""

from __future__ import annotations

import http.client
import json
import signal
import ssl
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any, Final

import pytest
import trio

from crier.lab.kube import Kube
from crier.lab.kube.audit import FORBIDDEN, full_name, requests
from crier.lab.kube.install import SYSTEM, Accounts
from crier.lab.rest import Object, Rest
from tests.allocator.test_process import PATIENCE, Program, program
from tests.places import free_port
from tests.speaker.planner.lab import NODES, RealCluster, Speaker, running, soon, until

CONTROLLER: Final = f"{SYSTEM}:controller"
SPEAKER: Final = f"{SYSTEM}:speaker"
PODS: Final = f"/api/v1/namespaces/{SYSTEM}/pods"
METALLB: Final = f"/apis/metallb.io/v1beta1/namespaces/{SYSTEM}"


def pod(name: str, component: str, node: str) -> Object:
    return {
        "metadata": {"name": name, "labels": {"app": "metallb", "component": component}},
        "spec": {"nodeName": node, "containers": [{"name": component, "image": "crier"}]},
    }


@pytest.fixture(scope="module")
def furnished(kube: Kube, accounts: Accounts) -> Accounts:
    """Two nodes, our pods on them, a pool of both families and its announcement."""
    rest = kube.rest
    for number, name in enumerate(NODES, 1):
        rest.create("/api/v1/nodes", {"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}})
        rest.create(PODS, pod(f"speaker-{name}", "speaker", name))
        address = f"192.0.2.{number}"
        running = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
        rest.merge(f"{PODS}/speaker-{name}/status", {"status": running})
    rest.create(PODS, pod("controller-0", "controller", NODES[0]))
    addresses = ["203.0.113.0/30", "2001:db8::/126"]
    for kind, spec in (("IPAddressPool", {"addresses": addresses}), ("L2Advertisement", {})):
        head = {"apiVersion": "metallb.io/v1beta1", "kind": kind, "metadata": {"name": "one"}}
        rest.create(f"{METALLB}/{kind.lower()}s", {**head, "spec": spec})
    return accounts


@contextmanager
def controller(accounts: Accounts, *arguments: str) -> Iterator[Program]:
    """The whole program, settled."""
    environ = {"METALLB_ML_SECRET_NAME": "memberlist", "METALLB_DEPLOYMENT": "controller"}
    with program(accounts.controller, *arguments, **environ) as found:
        found.until("started")
        yield found
        assert found.end(signal.SIGTERM) == 0


def service(name: str, **spec: Any) -> Object:
    return {
        "metadata": {"name": name},
        "spec": {"type": "LoadBalancer", "ports": [{"name": "http", "port": 80}], **spec},
    }


def ips(rest: Rest, name: str) -> list[str]:
    found = rest.get(f"/api/v1/namespaces/default/services/{name}") or {}
    return [entry["ip"] for entry in found["status"]["loadBalancer"].get("ingress", ())]


async def eventually(look: Callable[[], Any], right: Callable[[Any], object] = bool) -> Any:
    """What `look`, which asks the server, finds once it is right."""

    async def ask() -> Any:
        return await trio.to_thread.run_sync(look)

    return await until(ask, right)


# ------------------------------------------------------------------------------------- the controller


def refusals(kube: Kube) -> list[str]:
    return [
        f"{request.account} may not {request.verb} {request.resource}"
        for request in requests(kube.directory / "audit.log")
        if request.account and request.code == FORBIDDEN
    ]


async def test_the_controller_gives_addresses_and_tells(kube: Kube, furnished: Accounts) -> None:
    rest = kube.rest
    services = "/api/v1/namespaces/default/services"
    with controller(furnished) as running:
        rest.create(services, service("four"))
        rest.create(services, service("both", ipFamilyPolicy="RequireDualStack"))
        assert await eventually(lambda: ips(rest, "four")) == ["203.0.113.0"]
        assert await eventually(lambda: ips(rest, "both")) == ["203.0.113.1", "2001:db8::"]
        four = rest.get(f"{services}/four") or {}
        assert four["metadata"]["annotations"]["metallb.io/ip-allocated-from-pool"] == "one"
        assert four["status"]["loadBalancer"]["ingress"] == [{"ip": "203.0.113.0", "ipMode": "VIP"}]

        counters = {"assignedIPv4": 2, "assignedIPv6": 1, "availableIPv4": 2, "availableIPv6": 3}
        pool = f"{METALLB}/ipaddresspools/one"
        await eventually(lambda: (rest.get(pool) or {}).get("status"), lambda found: found == counters)

        state = f"{METALLB}/configurationstates/controller"
        found = await eventually(
            lambda: rest.get(state), lambda found: (found or {}).get("status", {}).get("result") == "Valid"
        )
        assert [owner["name"] for owner in found["metadata"]["ownerReferences"]] == ["controller-0"]

        secret = await eventually(lambda: rest.get(f"/api/v1/namespaces/{SYSTEM}/secrets/memberlist"))
        (owner,) = secret["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"]) == ("Deployment", "controller")

        def told() -> list[str]:
            events = rest.request("GET", "/api/v1/namespaces/default/events")["items"]
            return [event["message"] for event in events if event["reason"] == "IPAllocated"]

        await eventually(told, lambda found: 'Assigned IP ["203.0.113.0"]' in found)

        def document() -> Any:
            # speakers are waited for that are nowhere; what takes longer than an answer may is cut off
            with suppress(http.client.RemoteDisconnected):
                return json.loads(running.ask("/page.json"))

        page = await eventually(document)
        assert [vip["services"][0] for vip in page["vips"]] == [
            "default/four",
            "default/both",
            "default/both",
        ]
        assert [pool["assigned"] for pool in page["pools"]] == [3]
        unread = [problem for problem in page["problems"] if "could not be read" in problem["text"]]
        assert unread == []
    assert refusals(kube) == []


async def test_a_restart_of_the_controller_writes_no_service(kube: Kube, furnished: Accounts) -> None:
    rest = kube.rest
    services = "/api/v1/namespaces/default/services"

    def versions() -> dict[str, str]:
        listed = rest.request("GET", services)["items"]
        return {thing["metadata"]["name"]: thing["metadata"]["resourceVersion"] for thing in listed}

    with controller(furnished):
        rest.create(services, service("kept"))
        await eventually(lambda: ips(rest, "kept"))
    before = versions()
    with controller(furnished):
        rest.create(services, service("marker"))  # what comes before it is dealt with before it
        await eventually(lambda: ips(rest, "marker"))
        after = versions()
    assert {name: after[name] for name in before} == before
    for name in ("kept", "marker"):
        rest.delete(f"{services}/{name}")
    assert refusals(kube) == []


async def test_metrics_are_for_whom_the_api_lets_read_them(kube: Kube, furnished: Accounts) -> None:
    """TokenReview and SubjectAccessReview, answered by a real API server."""
    for name, rules in (("scraper", [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]), ("stranger", [])):
        kube.rest.create(f"/api/v1/namespaces/{SYSTEM}/serviceaccounts", {"metadata": {"name": name}})
        role = {"metadata": {"name": name}, "rules": rules}
        kube.rest.create("/apis/rbac.authorization.k8s.io/v1/clusterroles", role)
        binding = {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": SYSTEM}],
        }
        kube.rest.create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=anybody)
    )

    def scrape(token: str) -> int:
        url, headers = f"https://127.0.0.1:{port}/metrics", {"Authorization": f"Bearer {token}"}
        try:
            with opener.open(urllib.request.Request(url, headers=headers), timeout=PATIENCE) as answer:
                assert b"metallb_allocator_addresses_total" in answer.read()
                return int(answer.status)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code
        except urllib.error.URLError:
            return 0  # not up yet

    port = free_port()
    with controller(furnished, f"--port={port}"):
        allowed, stranger = (kube.token(SYSTEM, name) for name in ("scraper", "stranger"))
        assert await eventually(lambda: scrape(allowed)) == 200
        assert scrape(stranger) == 403
        assert scrape("nonsense") == 401
    assert refusals(kube) == []


# ---------------------------------------------------------------------------------------- the speakers


@asynccontextmanager
async def planners(kube: Kube, accounts: Accounts) -> AsyncIterator[tuple[Speaker, ...]]:
    cluster = RealCluster(kube, accounts)
    try:
        async with running(cluster, node=NODES[0]) as one, running(cluster, node=NODES[1]) as two:
            yield one, two
    finally:
        cluster.api.close()


def has(speaker: Speaker, address: str) -> bool:
    return address in speaker.reflex.addresses


def lacks(speaker: Speaker, address: str) -> bool:
    return bool(speaker.reflex.all_orders) and not has(speaker, address)


async def test_planners_order_report_and_clean_up(kube: Kube, furnished: Accounts) -> None:
    rest = kube.rest
    rest.create("/api/v1/namespaces/default/services", service("web"))
    endpoints = [{"addresses": ["10.1.0.1"], "nodeName": NODES[0], "conditions": {"ready": True}}]
    rest.create(
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
        {
            "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": [{"name": "http", "port": 8080}],
        },
    )
    ingress = {"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.3"}]}}}
    rest.merge("/api/v1/namespaces/default/services/web/status", ingress)

    def statuses() -> list[tuple[str, str, list[str]]]:
        return [
            (
                thing["status"]["node"],
                thing["status"]["serviceName"],
                [owner["name"] for owner in thing["metadata"].get("ownerReferences", ())],
            )
            for thing in rest.request("GET", f"{METALLB}/servicel2statuses")["items"]
            if "status" in thing
        ]

    def states() -> dict[str, Any]:
        listed = rest.request("GET", f"{METALLB}/configurationstates")["items"]
        return {thing["metadata"]["name"]: thing.get("status", {}).get("result") for thing in listed}

    async with planners(kube, furnished) as speakers:
        for speaker in speakers:
            await soon(partial(has, speaker, "203.0.113.3"))
            await speaker.reflex.obey()
        (vip,) = [v for v in speakers[0].reflex.orders.vips if v.address == "203.0.113.3"]
        assert sorted(vip.candidates) == sorted(NODES)
        owner = vip.candidates[0]
        expected = [(owner, "web", [f"speaker-{owner}"])]
        await eventually(statuses, lambda found: [each for each in found if each[1] == "web"] == expected)
        await eventually(
            states, lambda found: [found.get(f"speaker-{node}") for node in NODES] == ["Valid", "Valid"]
        )

        def told() -> list[str]:
            events = rest.request("GET", "/api/v1/namespaces/default/events")["items"]
            return [event["message"] for event in events if event["reason"] == "nodeAssigned"]

        await eventually(
            told, lambda found: f'announcing from node "{owner}" with protocol "layer2"' in found
        )

        # the owner is lost: the next one takes over, and the status with it
        heir = next(node for node in NODES if node != owner)
        for speaker in speakers:
            speaker.reflex.reachable.discard(owner)
            await speaker.reflex.obey()
        expected = [(heir, "web", [f"speaker-{heir}"])]
        await eventually(statuses, lambda found: [each for each in found if each[1] == "web"] == expected)

        rest.delete("/api/v1/namespaces/default/services/web")
        for speaker in speakers:
            await soon(partial(lacks, speaker, "203.0.113.3"))
            await speaker.reflex.obey()
        await eventually(statuses, lambda found: not [each for each in found if each[1] == "web"])
    rest.delete("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/web-1")
    assert refusals(kube) == []


# ------------------------------------------------------------------------------------ neither too much


DENIED: Final = [
    (account, verb, group, resource, namespace)
    for account in ("controller", "speaker")
    for verb, group, resource, namespace in [
        ("list", "", "secrets", "default"),
        ("get", "", "secrets", "kube-system"),
        ("delete", "", "secrets", SYSTEM),
        ("update", "", "services", "default"),
        ("patch", "", "services", "default"),
        ("delete", "", "services", "default"),
        ("create", "", "pods", SYSTEM),
        ("delete", "", "pods", SYSTEM),
        ("update", "", "nodes", ""),
        ("patch", "", "nodes/status", ""),
        ("create", "metallb.io", "ipaddresspools", SYSTEM),
        ("update", "metallb.io", "ipaddresspools", SYSTEM),
        ("update", "apps", "deployments", SYSTEM),
        ("create", "rbac.authorization.k8s.io", "clusterroles", ""),
        ("impersonate", "", "users", ""),
    ]
] + [
    ("controller", "list", "", "secrets", SYSTEM),
    ("speaker", "create", "", "secrets", SYSTEM),
    ("speaker", "update", "", "services/status", "default"),
    ("speaker", "update", "metallb.io", "ipaddresspools/status", SYSTEM),
    ("speaker", "patch", "metallb.io", "l2advertisements", SYSTEM),
]


@pytest.mark.parametrize(("account", "verb", "group", "resource", "namespace"), DENIED)
@pytest.mark.usefixtures("accounts")
def test_what_an_account_may_not(
    kube: Kube, account: str, verb: str, group: str, resource: str, namespace: str
) -> None:
    plural, _, subresource = resource.partition("/")
    attributes = {"verb": verb, "group": group, "resource": plural, "namespace": namespace}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{SYSTEM}:{account}",
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{SYSTEM}", "system:authenticated"],
            "resourceAttributes": {**attributes, "subresource": subresource},
        },
    }
    answer = kube.rest.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    assert not answer["status"]["allowed"], answer["status"]


BGP: Final = ("bgppeers", "bgpadvertisements", "bfdprofiles", "communities")
IDLE: Final = {
    CONTROLLER: {
        "patch configurationstates.metallb.io",  # one that another process of ours made gets its owner
        "patch events",  # when the same is told again
    },
    SPEAKER: {
        # BGP, which no test here configures: its peers' passwords, its statuses
        *(f"{verb} {kind}.metallb.io" for kind in BGP for verb in ("get", "list", "watch")),
        *(f"{verb} secrets" for verb in ("get", "list", "watch")),
        *(
            f"{verb} servicebgpstatuses.metallb.io"
            for verb in ("create", "delete", "get", "list", "patch", "watch")
        ),
        "patch servicebgpstatuses.metallb.io/status",
        # the metrics' readers; the controller's are looked at above
        *("create tokenreviews.authentication.k8s.io", "create subjectaccessreviews.authorization.k8s.io"),
        # one that another process of ours made gets its owner
        *(f"patch {kind}.metallb.io" for kind in ("servicel2statuses", "configurationstates")),
        "patch events",  # when the same is told again
    },
}
"""What is granted although no test here uses it."""


def granted(rest: Rest, account: str) -> set[str]:
    name = account.partition(":")[2]
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    roles = [f"{rbac}/clusterroles/{account}", f"{rbac}/namespaces/{SYSTEM}/roles/{name}"]
    return {
        f"{verb} {full_name(group, *resource.split('/'))}"
        for role in roles
        for rule in (rest.get(role) or {})["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@pytest.mark.parametrize("account", [CONTROLLER, SPEAKER])
def test_what_is_granted_is_used(
    kube: Kube, furnished: Accounts, account: str, request: pytest.FixtureRequest
) -> None:
    """Looks back at what the tests above did."""
    assert furnished
    ran = {item.name for item in request.session.items if item.path == request.path}
    if not ran >= {
        "test_the_controller_gives_addresses_and_tells",
        "test_planners_order_report_and_clean_up",
    }:
        pytest.skip("the tests that use the roles were not selected")
    used = {
        f"{request.verb} {request.resource}"
        for request in requests(kube.directory / "audit.log")
        if request.account == account
    }
    # whoever may list all may read each
    implied = {"get " + each.partition(" ")[2] for each in used if each.startswith("list ")}
    idle = granted(kube.rest, account) - used - implied
    may_be = IDLE[account]
    assert not idle - may_be, f"granted, and nobody uses it: {sorted(idle - may_be)}"
    never = may_be - granted(kube.rest, account)
    assert not never, f"not granted at all: {sorted(never)}"
