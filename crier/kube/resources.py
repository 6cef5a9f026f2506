"""The kinds of object our programs touch, and where the API keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Resource:
    group: str
    """"" for the core group."""
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str = "") -> str:
        """The path of the collection, of one object, or of a subresource of it.

        A namespaced kind without a namespace is the collection over all namespaces.
        """
        root = f"/apis/{self.group}" if self.group else "/api"
        parts = [root, self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name is not None:
            parts.append(quote(name, safe=""))
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


NAMESPACES: Final = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
NODES: Final = Resource("", "v1", "nodes", "Node", namespaced=False)
SERVICES: Final = Resource("", "v1", "services", "Service")
PODS: Final = Resource("", "v1", "pods", "Pod")
SECRETS: Final = Resource("", "v1", "secrets", "Secret")
SERVICE_ACCOUNTS: Final = Resource("", "v1", "serviceaccounts", "ServiceAccount")
CONFIG_MAPS: Final = Resource("", "v1", "configmaps", "ConfigMap")
EVENTS: Final = Resource("", "v1", "events", "Event")
ENDPOINT_SLICES: Final = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases", "Lease")
DAEMON_SETS: Final = Resource("apps", "v1", "daemonsets", "DaemonSet")
DEPLOYMENTS: Final = Resource("apps", "v1", "deployments", "Deployment")
TOKEN_REVIEWS: Final = Resource(
    "authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False
)
SUBJECT_ACCESS_REVIEWS: Final = Resource(
    "authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False
)
SELF_SUBJECT_ACCESS_REVIEWS: Final = Resource(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False
)
VALIDATING_WEBHOOK_CONFIGURATIONS: Final = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    namespaced=False,
)
CUSTOM_RESOURCE_DEFINITIONS: Final = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)

METALLB: Final = "metallb.io"
IP_ADDRESS_POOLS: Final = Resource(METALLB, "v1beta1", "ipaddresspools", "IPAddressPool")
L2_ADVERTISEMENTS: Final = Resource(METALLB, "v1beta1", "l2advertisements", "L2Advertisement")
BGP_ADVERTISEMENTS: Final = Resource(METALLB, "v1beta1", "bgpadvertisements", "BGPAdvertisement")
BGP_PEERS: Final = Resource(METALLB, "v1beta2", "bgppeers", "BGPPeer")
BFD_PROFILES: Final = Resource(METALLB, "v1beta1", "bfdprofiles", "BFDProfile")
COMMUNITIES: Final = Resource(METALLB, "v1beta1", "communities", "Community")
SERVICE_L2_STATUSES: Final = Resource(METALLB, "v1beta1", "servicel2statuses", "ServiceL2Status")
SERVICE_BGP_STATUSES: Final = Resource(METALLB, "v1beta1", "servicebgpstatuses", "ServiceBGPStatus")
CONFIGURATION_STATES: Final = Resource(METALLB, "v1beta1", "configurationstates", "ConfigurationState")
