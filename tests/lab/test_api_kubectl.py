"""kubectl as people use it, without extra flags.  For any API server."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.lab.conftest import ApiServer

MANIFEST = """
apiVersion: v1
kind: Service
metadata: {name: web, labels: {app: web}}
spec: {type: LoadBalancer, ports: [{name: http, port: 80}], selector: {app: web}}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: first}
spec: {addresses: ["10.0.0.0/24"]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: example.com/web}]}
"""


class Kubectl:
    def __init__(self, server: ApiServer, namespace: str) -> None:
        self._server = server
        self._namespace = namespace

    def __call__(self, *arguments: str, stdin: str = "", check: bool = True) -> str:
        done = self._server.kubectl("--namespace", self._namespace, *arguments, stdin=stdin, check=check)
        return done.stdout if check else done.stdout + done.stderr


@pytest.fixture
def kubectl(api_server: ApiServer, namespace: str) -> Kubectl:
    return Kubectl(api_server, namespace)


def test_apply_is_idempotent_and_changes(kubectl: Kubectl) -> None:
    assert kubectl("apply", "-f", "-", stdin=MANIFEST).splitlines() == [
        "service/web created",
        "ipaddresspool.metallb.io/first created",
        "deployment.apps/web created",
    ]
    again = kubectl("apply", "-f", "-", stdin=MANIFEST)
    assert again.count("unchanged") == 3, again
    changed = kubectl("apply", "-f", "-", stdin=MANIFEST.replace("port: 80", "port: 81"))
    assert changed.splitlines()[0] == "service/web configured"
    assert kubectl("get", "service", "web", "-o", "jsonpath={.spec.ports[*].port}") == "81"
    kubectl("delete", "-f", "-", stdin=MANIFEST)
    assert kubectl("get", "services,ipaddresspools,deployments", "-o", "name") == ""


def test_server_side_apply(kubectl: Kubectl) -> None:
    first = kubectl("apply", "--server-side", "-f", "-", stdin=MANIFEST)
    assert first.count("serverside-applied") == 3, first
    more = MANIFEST.replace("10.0.0.0/24", "10.0.1.0/24")
    kubectl("apply", "--server-side", "-f", "-", stdin=more)
    assert kubectl("get", "ipaddresspool", "first", "-o", "jsonpath={.spec.addresses[*]}") == "10.0.1.0/24"


def test_get_shows_sensible_columns(kubectl: Kubectl, namespace: str) -> None:
    kubectl("apply", "-f", "-", stdin=MANIFEST)
    heads, row = kubectl("get", "service", "web").splitlines()
    assert heads.split() == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    assert row.split()[:2] == ["web", "LoadBalancer"]
    assert row.split()[3] == "<pending>"
    assert row.split()[4].startswith("80:3")
    heads, row = kubectl("get", "ipaddresspools").splitlines()
    assert heads == "NAME    AUTO ASSIGN   AVOID BUGGY IPS   ADDRESSES"
    assert row.split() == ["first", "true", "false", '["10.0.0.0/24"]']
    heads, *rows = kubectl("get", "svc", "-A", "-o", "wide", "-l", "app=web").splitlines()
    assert heads.split()[0] == "NAMESPACE"
    (row,) = [row for row in rows if row.split()[0] == namespace]
    assert row.split()[-1] == "app=web"
    heads, row = kubectl("get", "deploy").splitlines()
    assert row.split()[:2] == ["web", "0/2"]


def test_describe(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=MANIFEST)
    assert "LoadBalancer" in kubectl("describe", "service", "web")
    assert "10.0.0.0/24" in kubectl("describe", "ipaddresspool", "first")
    assert "example.com/web" in kubectl("describe", "deployment", "web")


def test_label_annotate_patch_edit_scale(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=MANIFEST)
    kubectl("label", "service", "web", "tier=front")
    kubectl("annotate", "service", "web", "metallb.io/address-pool=first")
    kubectl("patch", "service", "web", "-p", '{"spec":{"ports":[{"port":80,"name":"renamed"}]}}')
    kubectl("patch", "ipaddresspool", "first", "--type", "merge", "-p", '{"spec":{"autoAssign":false}}')
    kubectl("patch", "ipaddresspool", "first", "--type", "json",
            "-p", '[{"op":"add","path":"/spec/addresses/-","value":"10.9.0.0/24"}]')  # fmt: skip
    kubectl("scale", "deployment", "web", "--replicas", "5")
    service = json.loads(kubectl("get", "service", "web", "-o", "json"))
    assert service["metadata"]["labels"] == {"app": "web", "tier": "front"}
    assert service["metadata"]["annotations"]["metallb.io/address-pool"] == "first"
    assert [port["name"] for port in service["spec"]["ports"]] == ["renamed"]
    pool = json.loads(kubectl("get", "ipaddresspool", "first", "-o", "json"))
    assert pool["spec"]["addresses"] == ["10.0.0.0/24", "10.9.0.0/24"]
    assert pool["spec"]["autoAssign"] is False
    assert kubectl("get", "deployment", "web", "-o", "jsonpath={.spec.replicas}") == "5"


def test_the_status_is_replaced_through_its_subresource(kubectl: Kubectl, namespace: str) -> None:
    kubectl("apply", "-f", "-", stdin=MANIFEST)
    service = json.loads(kubectl("get", "service", "web", "-o", "json"))
    service["status"] = {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}}
    # not `patch --subresource`, which kubectl has from 1.24 on only
    path = f"/api/v1/namespaces/{namespace}/services/web/status"
    kubectl("replace", "--raw", path, "-f", "-", stdin=json.dumps(service))
    assert kubectl("get", "service", "web").splitlines()[1].split()[3] == "10.0.0.1"


def test_imperative_commands(kubectl: Kubectl, api_server: ApiServer, namespace: str) -> None:
    """These send protobuf."""
    kubectl("create", "configmap", "settings", "--from-literal", "a=b")
    kubectl("create", "secret", "generic", "keys", "--from-literal", "password=x")
    kubectl("create", "serviceaccount", "robot")
    kubectl("create", "deployment", "none", "--image", "example.com/x", "--replicas", "0")
    kubectl("create", "service", "loadbalancer", "lb", "--tcp", "80:8080")
    kubectl("create", "role", "reader", "--verb", "get", "--resource", "pods")
    kubectl("create", "namespace", f"{namespace}-two")
    kubectl("delete", "namespace", f"{namespace}-two", "--wait=false")
    assert kubectl("get", "configmap", "settings", "-o", "jsonpath={.data}") == '{"a":"b"}'
    assert kubectl("get", "secret", "keys", "-o", "jsonpath={.data.password}") == "eA=="
    deployment = json.loads(kubectl("get", "deployment", "none", "-o", "json"))
    assert deployment["spec"]["replicas"] == 0, "a zero that was meant"
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "example.com/x"
    service = json.loads(kubectl("get", "service", "lb", "-o", "json"))["spec"]
    assert (service["ports"][0]["port"], service["ports"][0]["targetPort"]) == (80, 8080)
    role = json.loads(kubectl("get", "role", "reader", "-o", "json"))
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    assert kubectl("auth", "can-i", "get", "pods").strip() == "yes"


def test_refusals_are_told_in_words(kubectl: Kubectl) -> None:
    assert 'services "none" not found' in kubectl("get", "service", "none", check=False)
    assert "doesn't have a resource type" in kubectl("get", "nonsense", check=False)
    kubectl("create", "configmap", "twice")
    assert 'configmaps "twice" already exists' in kubectl("create", "configmap", "twice", check=False)
    body = "kind: Service\napiVersion: v1\nmetadata: {name: bad}\nspec: {type: Odd, ports: [{port: 80}]}"
    refused = kubectl("create", "-f", "-", stdin=body, check=False)
    assert 'The Service "bad" is invalid: spec.type: Unsupported value: "Odd"' in refused


def test_resources_are_listed_by_short_name(kubectl: Kubectl) -> None:
    listed = {line.split()[0]: line for line in kubectl("api-resources").splitlines()}
    assert " svc " in listed["services"]
    assert " crd,crds " in listed["customresourcedefinitions"]
    assert "metallb.io/v1beta2" in listed["bgppeers"]


def test_a_crd_is_applied_waited_for_and_used(kubectl: Kubectl) -> None:
    crd = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: sprockets.kubectl.example.com}
spec:
  group: kubectl.example.com
  scope: Namespaced
  names: {plural: sprockets, kind: Sprocket, singular: sprocket, shortNames: [sp]}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties: {spec: {type: object, properties: {teeth: {type: integer}}}}
    additionalPrinterColumns: [{name: Teeth, type: integer, jsonPath: .spec.teeth}]
"""
    try:
        kubectl("apply", "-f", "-", stdin=crd)
        kubectl(
            "wait", "--for", "condition=established", "crd/sprockets.kubectl.example.com", "--timeout", "20s"
        )
        body = "apiVersion: kubectl.example.com/v1\nkind: Sprocket\nmetadata: {name: s}\nspec: {teeth: 12}"
        kubectl("apply", "-f", "-", stdin=body)
        heads, row = kubectl("get", "sp").splitlines()
        assert (heads.split(), row.split()) == (["NAME", "TEETH"], ["s", "12"])
    finally:
        kubectl("delete", "crd", "sprockets.kubectl.example.com")


@pytest.mark.parametrize("form", ["json", "table"])
def test_watching(api_server: ApiServer, namespace: str, tmp_path: Path, form: str) -> None:
    """`kubectl get -w` shows what comes, until it is stopped."""
    command = [
        *(
            api_server.kubectl_program,
            f"--kubeconfig={api_server.kubeconfig}",
            "-n",
            namespace,
            "get",
            "configmaps",
            "-w",
        ),
        "--request-timeout=60s",  # ends a test that would wait for ever
        *(("-o", "jsonpath={.metadata.name}{'\\n'}") if form == "json" else ("--no-headers",)),
        *("-l", "seen=yes"),
    ]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    watching = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert watching.stdout is not None
        for name in ("one", "two"):
            # the first may be in the list or in the watch: either way it is a line
            body = {"metadata": {"name": name, "labels": {"seen": "yes"}}}
            assert api_server.call("POST", path, body).status == 201
            assert watching.stdout.readline().split()[0] == name
    finally:
        watching.terminate()
        watching.wait(60)
        if watching.stdout:
            watching.stdout.close()
