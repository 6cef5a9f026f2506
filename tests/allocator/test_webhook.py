"""The webhook without an API server: rules, conversion, certificates, and whatever bodies are sent to it."""

from __future__ import annotations

import contextlib
import datetime
import json
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator.webhook import service
from allocator.webhook.admission import DECODERS, DISABLE_MP, RULES, judge
from allocator.webhook.certificates import AUTHORITY_LIFETIME, LIFETIME, LOOKAHEAD, bring_up
from allocator.webhook.certificates_io import CA, CA_KEY, CERTIFICATE, KEY, Outcome, Task
from allocator.webhook.conversion import NEW, OLD, NotConvertible, convert
from allocator.webhook.server import Server
from allocator.webhook.service import Webhook
from allocator.webhook.wire import MAX_BODY, Admission, BadReview, Verdict, decode_admission
from crier.kube.client import Api
from crier.kube.resources import IP_ADDRESS_POOLS, NAMESPACES
from crier.lab.api import open_api
from tests.allocator.clusters import SYSTEM

V1 = "metallb.io/v1beta1"
PEER = {"myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.1"}
KINDS = {
    "ipaddresspool": ("IPAddressPool", V1),
    "l2advertisement": ("L2Advertisement", V1),
    "bgpadvertisement": ("BGPAdvertisement", V1),
    "bgppeer": ("BGPPeer", "metallb.io/v1beta2"),
    "bfdprofile": ("BFDProfile", V1),
    "community": ("Community", V1),
}


def thing(kind: str, name: str, spec: object) -> dict[str, Any]:
    label, version = KINDS[kind]
    return {
        "apiVersion": version,
        "kind": label,
        "metadata": {"name": name, "namespace": SYSTEM},
        "spec": spec,
    }


def path_of(kind: str) -> str:
    return f"/validate-metallb-io-{'v1beta2' if kind == 'bgppeer' else 'v1beta1'}-{kind}"


def ask(
    kind: str,
    name: str,
    spec: object,
    *existing: tuple[str, str, object],
    operation: str = "CREATE",
    namespace: str = SYSTEM,
) -> Verdict:
    rule = RULES[path_of(kind)]
    there: dict[Any, list[Any]] = {resource: [] for resource in DECODERS}
    for other, other_name, other_spec in existing:
        (resource,) = [each for each in DECODERS if each.kind == KINDS[other][0]]
        there[resource].append(DECODERS[resource](msgspec.json.encode(thing(other, other_name, other_spec))))
    body = b"" if spec is None else msgspec.json.encode(thing(kind, name, spec))
    return judge(rule, Admission("v", "u", operation, namespace, name, body), there, SYSTEM)


GOOD_POOL = ("ipaddresspool", "good", {"addresses": ["192.0.2.0/28"]})


@pytest.mark.parametrize(
    ("kind", "spec", "existing", "why"),
    [
        ("ipaddresspool", {"addresses": ["198.51.100.0/24"]}, [GOOD_POOL], ""),
        (
            "ipaddresspool",
            {"addresses": ["192.0.2.8-192.0.2.9"]},
            [GOOD_POOL],
            'CIDR "192.0.2.8/31" in pool "x" overlaps with already defined CIDR "192.0.2.0/28" in pool',
        ),
        ("ipaddresspool", {"addresses": ["nonsense"]}, [], "invalid CIDR 'nonsense'"),
        ("ipaddresspool", {"addresses": []}, [], "pool has no prefixes defined"),
        (
            "ipaddresspool",
            {"addresses": "192.0.2.0/28"},
            [],
            'IPAddressPool x: spec.addresses: "192.0.2.0/28": expected `array',
        ),
        ("l2advertisement", {"ipAddressPools": ["later"]}, [], ""),
        ("l2advertisement", {"ipAddressPools": ["a", "a"]}, [], "duplicate definition of ipAddressPools 'a'"),
        ("l2advertisement", {"nodeSelectors": [{"matchLabels": {"_": "x"}}]}, [], "invalid label selector"),
        ("bgpadvertisement", {"communities": ["later"], "peers": ["later"]}, [GOOD_POOL], ""),
        (
            "bgpadvertisement",
            {"aggregationLength": 26},
            [GOOD_POOL],
            "invalid aggregation length 26: prefix 28 in this pool is more specific",
        ),
        (
            "bgpadvertisement",
            {"aggregationLength": 28, "serviceSelectors": [{"matchLabels": {"a": "b"}}]},
            [],
            "serviceSelectors and aggregationLength are mutually exclusive",
        ),
        ("bgpadvertisement", {"communities": ["1:70000"]}, [], "invalid community value '1:70000'"),
        ("bgpadvertisement", {"communities": ["1:2", "1:2"]}, [], "duplicate definition of community '1:2'"),
        ("community", {"communities": [{"name": "a", "value": "1"}]}, [], "invalid community format '1'"),
        (
            "community",
            {"communities": [{"name": "a", "value": "1:1"}]},
            [("community", "w", {"communities": [{"name": "a", "value": "1:2"}]})],
            "duplicate definition of community 'a'",
        ),
        ("bgppeer", {**PEER, "bfdProfile": "later", "passwordSecret": {"name": "later"}}, [], ""),
        ("bgppeer", {**PEER, "peerAddress": "no"}, [], "invalid BGPPeer address 'no'"),
        ("bgppeer", {**PEER, "myASN": 0}, [], "missing local ASN"),
        (
            "bgppeer",
            {**PEER, "password": "x", "passwordSecret": {"name": "s"}},
            [],
            "can not have both password",
        ),
        ("bfdprofile", {"receiveInterval": 5}, [], "spec.receiveInterval: 5 is not in 10..60000"),
    ],
)
@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
def test_what_is_refused(
    kind: str, spec: object, existing: list[tuple[str, str, object]], why: str, operation: str
) -> None:
    verdict = ask(kind, "x", spec, *existing, operation=operation)
    assert verdict.allowed == (not why)
    assert why in verdict.message


@pytest.mark.parametrize("kind", KINDS)
def test_only_our_namespace(kind: str) -> None:
    verdict = ask(kind, "x", PEER if kind == "bgppeer" else {}, namespace="default")
    assert verdict.message == f"resource must be created in {SYSTEM} namespace"


def test_a_profile_in_use_stays() -> None:
    peer = ("bgppeer", "r", {**PEER, "bfdProfile": "fast"})
    verdict = ask("bfdprofile", "fast", None, peer, operation="DELETE")
    assert verdict.message == "failed to delete BFDProfile fast, used by BGPPeer r"
    assert ask("bfdprofile", "slow", None, peer, operation="DELETE").allowed


def test_an_old_fault_keeps_nobody_from_a_good_change() -> None:
    """MetalLB refuses everything until all is well, the mending of another fault included."""
    bad = ("ipaddresspool", "bad", {"addresses": ["192.0.2.8/29", "nonsense"]})
    assert ask("ipaddresspool", "x", {"addresses": ["203.0.113.0/24"]}, GOOD_POOL, bad).allowed
    mended = {"addresses": ["192.0.2.8/29"]}
    assert ask("ipaddresspool", "bad", mended, GOOD_POOL, bad, operation="UPDATE").allowed
    worse = {"addresses": ["192.0.2.8/29", "nonsense", "more"]}
    verdict = ask("ipaddresspool", "bad", worse, GOOD_POOL, bad, operation="UPDATE")
    assert (
        verdict.message == "bad: spec.addresses[2]: invalid CIDR 'more': must be ADDRESS/BITS or FIRST-LAST"
    )


def test_disable_mp_is_a_warning() -> None:
    assert ask("bgppeer", "x", {**PEER, "disableMP": True}) == Verdict(True, "", (DISABLE_MP,))
    assert ask("bgppeer", "x", {**PEER, "disableMP": False}).warnings == ()


# ------------------------------------------------------------------------------------ conversion


def peer(version: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": version,
        "kind": "BGPPeer",
        "metadata": {"name": "r", "uid": "u", "labels": {"a": "b"}},
        "spec": {**PEER, **spec},
    }


def test_old_and_new() -> None:
    old = peer(OLD, holdTime="30s", ebgpMultiHop=True, nodeSelectors=[{"matchLabels": {"a": "b"}}])
    new = convert(old, NEW)
    assert new == {**old, "apiVersion": NEW}
    assert convert(new, OLD) == old
    assert "keepaliveTime" not in new["spec"]
    rich = peer(NEW, passwordSecret={"name": "s"}, vrf="red", dualStackAddressFamily=True, connectTime="5s")
    assert convert(rich, OLD) == peer(OLD)
    by_interface = {**peer(NEW), "spec": {"myASN": 1, "dynamicASN": "external", "interface": "eth0"}}
    assert convert(by_interface, OLD)["spec"] == {"myASN": 1, "peerASN": 0, "peerAddress": ""}
    assert "peerPort" not in convert(peer(OLD, peerPort=0), NEW)["spec"]
    assert convert({**old, "spec": None}, NEW)["spec"] is None


@pytest.mark.parametrize(
    ("found", "desired"),
    [
        ({**peer(OLD), "kind": "Pod"}, NEW),
        (peer("metallb.io/v1"), NEW),
        (peer(OLD), "metallb.io/v1"),
        ({**peer(OLD), "spec": []}, NEW),
        ({}, NEW),
    ],
)
def test_what_is_not_converted(found: dict[str, Any], desired: str) -> None:
    with pytest.raises(NotConvertible):
        convert(found, desired)


OLD_SPECS = st.fixed_dictionaries(
    {"myASN": st.integers(0, 2**32 - 1), "peerASN": st.integers(0, 2**32 - 1), "peerAddress": st.text()},
    optional={
        "peerPort": st.integers(1, 16384),
        "holdTime": st.text(),
        "keepaliveTime": st.text(),
        "routerID": st.text(),
        "password": st.text(),
        "ebgpMultiHop": st.booleans(),
    },
)


@settings(max_examples=50)
@given(OLD_SPECS)
def test_there_and_back_nothing_is_lost(spec: dict[str, Any]) -> None:
    old = {**peer(OLD), "spec": spec}
    assert convert(convert(old, NEW), OLD) == old


# ------------------------------------------------------------------------- whatever is sent there


@contextlib.asynccontextmanager
async def webhook() -> AsyncIterator[Webhook]:
    async with open_api(seed=1, metallb_crds=True) as lab:
        api = Api.at(lab.url)
        yield Webhook(api, SYSTEM)
        api.close()


def admission(kind: str, name: str, spec: object, **more: Any) -> dict[str, Any]:
    request = {
        "uid": "1",
        "operation": "CREATE",
        "namespace": SYSTEM,
        "name": name,
        "object": thing(kind, name, spec),
        **more,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["spec", "metadata", "name", "addresses", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
BODIES = st.one_of(
    st.binary(max_size=200),
    JSON.map(msgspec.json.encode),
    st.builds(
        lambda kind, spec, operation: msgspec.json.encode(admission(kind, "x", spec, operation=operation)),
        st.sampled_from(sorted(KINDS)),
        JSON,
        st.sampled_from(["CREATE", "UPDATE", "DELETE", "CONNECT", ""]),
    ),
    st.builds(
        lambda found: msgspec.json.encode(
            {**admission("bgppeer", "x", {}), "request": {"uid": "1", "operation": "CREATE", "object": found}}
        ),
        JSON,
    ),
    st.builds(
        lambda objects, desired: msgspec.json.encode(
            {
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "ConversionReview",
                "request": {"uid": "1", "desiredAPIVersion": desired, "objects": objects},
            }
        ),
        st.lists(JSON, max_size=3),
        st.sampled_from([OLD, NEW, "x"]),
    ),
)


class NoObjects(Webhook):
    """As in a cluster without any; needs no API."""

    def __init__(self) -> None:
        super().__init__(None, SYSTEM)  # type: ignore[arg-type]

    async def _list(self, resource: object) -> list[Any]:
        return []


@settings(max_examples=300)
@given(st.sampled_from([*RULES, "/convert", "/", ""]), BODIES)
def test_any_body_is_answered_or_refused(path: str, body: bytes) -> None:
    async def send() -> bytes | None:
        return await NoObjects().answer(path, body)

    try:
        answer = trio.run(send)
    except BadReview:
        return
    assert answer is None or json.loads(answer)["response"]["uid"] is not None


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b" " * (MAX_BODY + 1), b"\xff\xfe{}"])
def test_bodies_have_bounds(body: bytes) -> None:
    with pytest.raises(BadReview):
        decode_admission(body)


async def test_what_exists_is_read_at_that_moment() -> None:
    async with webhook() as hook:
        api = hook._api
        await api.create(NAMESPACES, {"metadata": {"name": SYSTEM}})
        body = msgspec.json.encode(admission("ipaddresspool", "b", {"addresses": ["192.0.2.0/24"]}))
        answer = json.loads(await hook.answer(path_of("ipaddresspool"), body) or b"")
        assert answer["response"] == {"uid": "1", "allowed": True}
        await api.create(
            IP_ADDRESS_POOLS, thing("ipaddresspool", "a", {"addresses": ["192.0.2.0/28"]}), namespace=SYSTEM
        )
        answer = json.loads(await hook.answer(path_of("ipaddresspool"), body) or b"")
        assert not answer["response"]["allowed"]
        assert "overlaps with already defined CIDR" in answer["response"]["status"]["message"]


async def test_without_an_api_nothing_is_allowed() -> None:
    hook = Webhook(Api.at("http://127.0.0.1:1", timeout=1), SYSTEM)
    body = msgspec.json.encode(admission("ipaddresspool", "b", {"addresses": ["192.0.2.0/24"]}))
    answer = json.loads(await hook.answer(path_of("ipaddresspool"), body) or b"")
    assert not answer["response"]["allowed"]
    assert answer["response"]["status"]["code"] == 500


# ---------------------------------------------------------------------------------- certificates

NAMES = ("metallb-webhook-service.metallb-system.svc",)
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def first(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificates(pem)[0]


def test_a_certificate_is_made_and_kept() -> None:
    data, changed = bring_up({}, NAMES, NOW)
    assert changed
    assert bring_up(data, NAMES, NOW) == (data, False)
    first(data[CERTIFICATE]).verify_directly_issued_by(first(data[CA]))
    assert first(data[CA]).subject.rfc4514_string() == "CN=cert,O=metallb"


def test_it_is_renewed_before_its_end_by_the_same_authority() -> None:
    data, _ = bring_up({}, NAMES, NOW)
    assert not bring_up(data, NAMES, NOW + LIFETIME - LOOKAHEAD - datetime.timedelta(days=1))[1]
    later, changed = bring_up(data, NAMES, NOW + LIFETIME - LOOKAHEAD)
    assert changed
    assert (later[CA], later[CA_KEY]) == (data[CA], data[CA_KEY])
    assert later[CERTIFICATE] != data[CERTIFICATE]


def test_a_new_authority_beside_the_old_one() -> None:
    data, _ = bring_up({}, NAMES, NOW)
    later, changed = bring_up(data, NAMES, NOW + AUTHORITY_LIFETIME - LOOKAHEAD)
    assert changed
    bundle = x509.load_pem_x509_certificates(later[CA])
    assert len(bundle) == 2, "who still shows the old certificate is still believed"
    assert bundle[1] == first(data[CA])
    first(later[CERTIFICATE]).verify_directly_issued_by(bundle[0])
    # the old one goes when it has ended
    last, _ = bring_up(later, NAMES, NOW + 2 * AUTHORITY_LIFETIME)
    assert first(data[CA]) not in x509.load_pem_x509_certificates(last[CA])


def test_another_name_needs_another_certificate() -> None:
    data, _ = bring_up({}, NAMES, NOW)
    later, changed = bring_up(data, ("other.svc",), NOW)
    assert changed
    assert later[CA] == data[CA]


@settings(max_examples=30)
@given(
    st.dictionaries(st.sampled_from([CA, CA_KEY, CERTIFICATE, KEY, "more"]), st.binary(max_size=40)),
    st.data(),
)
def test_whatever_the_secret_has_there_is_a_good_certificate(
    found: dict[str, bytes], draw: st.DataObject
) -> None:
    data, _ = bring_up({}, NAMES, NOW)
    kept = draw.draw(st.sets(st.sampled_from(sorted(data))))
    mended, _ = bring_up({**found, **{name: data[name] for name in kept}}, NAMES, NOW)
    first(mended[CERTIFICATE]).verify_directly_issued_by(first(mended[CA]))
    key = serialization.load_pem_private_key(mended[KEY], None)
    assert key.public_key() == first(mended[CERTIFICATE]).public_key()


def test_the_program_that_makes_them() -> None:
    command = [sys.executable, "-m", "allocator.webhook.certificates"]
    task = msgspec.json.encode(Task(NAMES, {}))
    done = subprocess.run(command, input=task, capture_output=True, timeout=120, check=True)
    outcome = msgspec.json.decode(done.stdout, type=Outcome)
    assert outcome.changed
    first(outcome.data[CERTIFICATE]).verify_directly_issued_by(first(outcome.data[CA]))


# ----------------------------------------------------------------------------------------- HTTPS


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[tuple[int, ssl.SSLContext]]:
    """Its port, and what a client needs to believe it."""
    data, _ = bring_up({}, ("localhost",), datetime.datetime.now(datetime.UTC))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    service._load(context, data[KEY] + data[CERTIFICATE])
    trusting = ssl.create_default_context(cadata=data[CA].decode())
    async with trio.open_nursery() as nursery:
        server = Server(NoObjects().answer, context)
        port = await nursery.start(server.serve, "127.0.0.1", 0)
        yield port, trusting
        nursery.cancel_scope.cancel()


async def talk(port: int, context: ssl.SSLContext, octets: bytes) -> bytes:
    """All that comes back until the server closes, or is silent for a moment after an answer."""
    stream = await trio.open_ssl_over_tcp_stream(
        "localhost", port, ssl_context=context, https_compatible=True
    )
    answer = b""
    async with stream:
        await stream.send_all(octets)
        with trio.move_on_after(30):
            while b"\r\n\r\n" not in answer or not answer.endswith((b"}", b"\n")):
                found = await stream.receive_some(65536)
                if not found:
                    break
                answer += bytes(found)
    return answer


def post(path: str, body: bytes) -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(body), body)


REVIEW = msgspec.json.encode(admission("ipaddresspool", "x", {"addresses": []}))


@pytest.mark.parametrize(
    ("octets", "status", "text"),
    [
        (post(f"{path_of('ipaddresspool')}?timeout=10s", REVIEW), b"200", b"pool has no prefixes defined"),
        (post("/convert", b"{}"), b"400", b"missing required field"),
        (post("/nowhere", b"{}"), b"404", b"not found"),
        (b"GET /convert HTTP/1.1\r\nHost: x\r\n\r\n", b"405", b"only POST"),
        (b"POST /convert HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b"400", b""),
        (b"\x00\x01\x02\r\n\r\n", b"400", b""),
    ],
)
async def test_requests(octets: bytes, status: bytes, text: bytes) -> None:
    async with serving() as (port, context):
        answer = await talk(port, context, octets)
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert text in answer


async def test_a_body_has_a_bound() -> None:
    async with serving() as (port, context):
        stream = await trio.open_ssl_over_tcp_stream(
            "localhost", port, ssl_context=context, https_compatible=True
        )
        await stream.send_all(b"POST /convert HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        with pytest.raises(trio.BrokenResourceError), trio.fail_after(60):  # noqa: PT012
            for _ in range(64):
                await stream.send_all(chunk)
        await trio.aclose_forcefully(stream)
        # and it goes on for others
        assert b"404" in await talk(port, context, post("/nowhere", b""))


async def test_who_speaks_no_tls_is_let_go() -> None:
    async with serving() as (port, context):
        plain = await trio.open_tcp_stream("localhost", port)
        await plain.send_all(b"GET / HTTP/1.0\r\n\r\n")
        with trio.fail_after(60), contextlib.suppress(trio.BrokenResourceError):
            while await plain.receive_some():
                pass
        await plain.aclose()
        assert b"404" in await talk(port, context, post("/nowhere", b""))
