"""The kinds that are there from the start, with the columns the real server prints."""

from __future__ import annotations

from typing import Any, Final

from crier.lab.api.kinds import Column, Kind

_AGE: Final = Column("Age", "=age")
_METADATA: Final = "status and metadata"


def _columns(*names: str, wide: tuple[str, ...] = (), age: bool = True) -> tuple[Column, ...]:
    """Name first, then these, then the age, then the wide ones; `Title=function` or `Title.json.path`."""
    shown = [_column(name) for name in names]
    if age:
        shown.append(_AGE)
    return (*shown, *(_column(name, priority=1) for name in wide))


def _column(text: str, priority: int = 0) -> Column:
    title, separator, source = text.partition("=")
    if separator:
        return Column(title, f"={source}", priority=priority)
    title, _, path = text.partition(".")
    return Column(title, f".{path}", priority=priority)


_EVENT_COLUMNS: Final = (
    Column("Last Seen", "=event_last_seen"),
    Column("Type", ".type"),
    Column("Reason", ".reason"),
    Column("Object", "=event_object"),
    Column("Message", ".message"),
)

CORE: Final = (
    Kind("", ("v1",), "Namespace", "namespaces", namespaced=False, short_names=("ns",),
         has_status=True, status_write=_METADATA, columns=_columns("Status.status.phase")),
    Kind("", ("v1",), "Node", "nodes", namespaced=False, short_names=("no",),
         has_status=True, status_write=_METADATA,
         columns=_columns("Status=node_status", "Roles=node_roles", age=True,
                          wide=("Version.status.nodeInfo.kubeletVersion", "Internal-IP=node_internal_ip"))),
    Kind("", ("v1",), "Pod", "pods", short_names=("po",), categories=("all",),
         has_status=True, status_write=_METADATA, has_generation=True,
         columns=_columns("Ready=pod_ready", "Status=pod_status", "Restarts=pod_restarts",
                          wide=("IP.status.podIP", "Node.spec.nodeName"))),
    Kind("", ("v1",), "Service", "services", short_names=("svc",), categories=("all",),
         has_status=True, status_write=_METADATA,
         columns=_columns("Type.spec.type", "Cluster-IP=service_cluster_ip",
                          "External-IP=service_external_ip", "Port(s)=service_ports",
                          wide=("Selector=service_selector",))),
    Kind("", ("v1",), "Endpoints", "endpoints", short_names=("ep",), singular="endpoints",
         columns=_columns("Endpoints=endpoints")),
    Kind("", ("v1",), "Event", "events", short_names=("ev",),
         columns=_EVENT_COLUMNS),
    Kind("", ("v1",), "Secret", "secrets",
         columns=_columns("Type.type", "Data=data_count")),
    Kind("", ("v1",), "ConfigMap", "configmaps", short_names=("cm",), columns=_columns("Data=data_count")),
    Kind("", ("v1",), "ServiceAccount", "serviceaccounts", short_names=("sa",),
         columns=_columns("Secrets=secrets_count")),
    Kind("", ("v1",), "ResourceQuota", "resourcequotas", short_names=("quota",), has_status=True),
    Kind("", ("v1",), "LimitRange", "limitranges", short_names=("limits",)),
)  # fmt: skip

GROUPED: Final = (
    Kind("apps", ("v1",), "Deployment", "deployments", short_names=("deploy",), categories=("all",),
         has_status=True, status_write=_METADATA, has_scale=True, has_generation=True,
         columns=_columns("Ready=deployment_ready", "Up-to-date.status.updatedReplicas",
                          "Available.status.availableReplicas")),
    Kind("apps", ("v1",), "DaemonSet", "daemonsets", short_names=("ds",), categories=("all",),
         has_status=True, status_write=_METADATA, has_generation=True,
         columns=_columns("Desired.status.desiredNumberScheduled", "Current.status.currentNumberScheduled",
                          "Ready.status.numberReady", "Up-to-date.status.updatedNumberScheduled",
                          "Available.status.numberAvailable", "Node Selector=node_selector")),
    Kind("apps", ("v1",), "ReplicaSet", "replicasets", short_names=("rs",), categories=("all",),
         has_status=True, status_write=_METADATA, has_scale=True, has_generation=True,
         columns=_columns("Desired.spec.replicas", "Current.status.replicas", "Ready.status.readyReplicas")),
    Kind("apps", ("v1",), "StatefulSet", "statefulsets", short_names=("sts",), categories=("all",),
         has_status=True, status_write=_METADATA, has_scale=True, has_generation=True,
         columns=_columns("Ready=deployment_ready")),
    Kind("apps", ("v1",), "ControllerRevision", "controllerrevisions"),
    Kind("batch", ("v1",), "Job", "jobs", categories=("all",), has_status=True, status_write=_METADATA,
         has_generation=True),
    Kind("discovery.k8s.io", ("v1",), "EndpointSlice", "endpointslices", has_generation=True,
         columns=_columns("AddressType.addressType", "Ports=slice_ports", "Endpoints=slice_endpoints")),
    Kind("coordination.k8s.io", ("v1",), "Lease", "leases", unconditional_update=False,
         columns=_columns("Holder.spec.holderIdentity")),
    Kind("events.k8s.io", ("v1",), "Event", "events", short_names=("ev",), storage="events",
         columns=_EVENT_COLUMNS),
    Kind("rbac.authorization.k8s.io", ("v1",), "ClusterRole", "clusterroles", namespaced=False,
         columns=_columns("Created At.metadata.creationTimestamp", age=False)),
    Kind("rbac.authorization.k8s.io", ("v1",), "ClusterRoleBinding", "clusterrolebindings", namespaced=False,
         columns=_columns("Role=role_ref")),
    Kind("rbac.authorization.k8s.io", ("v1",), "Role", "roles",
         columns=_columns("Created At.metadata.creationTimestamp", age=False)),
    Kind("rbac.authorization.k8s.io", ("v1",), "RoleBinding", "rolebindings",
         columns=_columns("Role=role_ref")),
    Kind("apiextensions.k8s.io", ("v1",), "CustomResourceDefinition", "customresourcedefinitions",
         namespaced=False, short_names=("crd", "crds"), has_status=True, has_generation=True,
         unconditional_update=False, columns=_columns("Created At.metadata.creationTimestamp", age=False)),
    Kind("admissionregistration.k8s.io", ("v1",), "ValidatingWebhookConfiguration",
         "validatingwebhookconfigurations", namespaced=False, has_generation=True,
         columns=_columns("Webhooks=webhooks_count")),
    Kind("admissionregistration.k8s.io", ("v1",), "MutatingWebhookConfiguration",
         "mutatingwebhookconfigurations", namespaced=False, has_generation=True,
         columns=_columns("Webhooks=webhooks_count")),
    Kind("policy", ("v1",), "PodDisruptionBudget", "poddisruptionbudgets", short_names=("pdb",),
         has_status=True, status_write=_METADATA, has_generation=True),
    Kind("networking.k8s.io", ("v1",), "NetworkPolicy", "networkpolicies", short_names=("netpol",),
         has_generation=True),
    Kind("networking.k8s.io", ("v1",), "Ingress", "ingresses", short_names=("ing",),
         has_status=True, status_write=_METADATA, has_generation=True),
    Kind("scheduling.k8s.io", ("v1",), "PriorityClass", "priorityclasses", namespaced=False,
         short_names=("pc",), has_generation=True),
)  # fmt: skip

BUILTIN: Final = (*CORE, *GROUPED)


def _metallb(
    kind: str,
    plural: str,
    *columns: Column,
    versions: tuple[str, ...] = ("v1beta1",),
    defaults: tuple[tuple[str, Any], ...] = (),
) -> Kind:
    return Kind(
        "metallb.io", versions, kind, plural, has_status=True, has_generation=True, custom=True,
        unconditional_update=False, columns=columns or (_AGE,), merge_keys=(("status.conditions", "type"),),
        defaults=defaults,
    )  # fmt: skip


METALLB: Final = (
    _metallb("IPAddressPool", "ipaddresspools",
             Column("Auto Assign", ".spec.autoAssign", "boolean"),
             Column("Avoid Buggy IPs", ".spec.avoidBuggyIPs", "boolean"),
             Column("Addresses", ".spec.addresses"),
             defaults=(("spec.autoAssign", True), ("spec.avoidBuggyIPs", False))),
    _metallb("L2Advertisement", "l2advertisements",
             Column("IPAddressPools", ".spec.ipAddressPools"),
             Column("IPAddressPool Selectors", ".spec.ipAddressPoolSelectors"),
             Column("Interfaces", ".spec.interfaces"),
             Column("Node Selectors", ".spec.nodeSelectors", priority=10)),
    _metallb("BGPAdvertisement", "bgpadvertisements",
             Column("IPAddressPools", ".spec.ipAddressPools"),
             Column("IPAddressPool Selectors", ".spec.ipAddressPoolSelectors"),
             Column("Peers", ".spec.peers"),
             Column("Node Selectors", ".spec.nodeSelectors", priority=10),
             defaults=(("spec.aggregationLength", 32), ("spec.aggregationLengthV6", 128))),
    _metallb("BGPPeer", "bgppeers",
             Column("Address", ".spec.peerAddress"),
             Column("ASN", ".spec.peerASN"),
             Column("BFD Profile", ".spec.bfdProfile"),
             Column("Multi Hops", ".spec.ebgpMultiHop"), versions=("v1beta2", "v1beta1"),
             defaults=(("spec.peerPort", 179), ("spec.disableMP", False),
                       ("spec.dualStackAddressFamily", False))),
    _metallb("BFDProfile", "bfdprofiles",
             Column("Passive Mode", ".spec.passiveMode", "boolean"),
             Column("Transmit Interval", ".spec.transmitInterval", "integer"),
             Column("Receive Interval", ".spec.receiveInterval", "integer"),
             Column("Multiplier", ".spec.detectMultiplier", "integer")),
    _metallb("Community", "communities"),
    _metallb("ServiceL2Status", "servicel2statuses",
             Column("Allocated Node", ".status.node"),
             Column("Service Name", ".status.serviceName"),
             Column("Service Namespace", ".status.serviceNamespace")),
    _metallb("ServiceBGPStatus", "servicebgpstatuses",
             Column("Node", ".status.node"),
             Column("Service Name", ".status.serviceName"),
             Column("Service Namespace", ".status.serviceNamespace")),
    _metallb("ConfigurationState", "configurationstates",
             Column("Result", ".status.result"),
             Column("ErrorSummary", ".status.errorSummary"),
             Column("Age", "=age")),
)  # fmt: skip
"""MetalLB's kinds (`metallb.io`), for tests that do without the CRD manifests."""
