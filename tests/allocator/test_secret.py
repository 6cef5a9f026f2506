"""The Secret of the gossip: made once, owned by our Deployment, never changed."""

from __future__ import annotations

import re

import trio

from allocator.secret import ensure_secret, new_key
from crier.kube.model.secret import Secret
from crier.kube.model.wire import decode_meta
from crier.kube.resources import DEPLOYMENTS, SECRETS
from crier.lab.api import Rule
from tests.allocator.clusters import SYSTEM, open_cluster


def test_keys_are_22_characters_and_differ() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(re.fullmatch(rb"[A-Za-z0-9+/]{22}", key) for key in keys)


async def test_it_is_made_once() -> None:
    async with open_cluster() as cluster:
        await ensure_secret(cluster.api, SYSTEM, "memberlist", "controller")
        raw = await cluster.api.get(SECRETS, "memberlist", namespace=SYSTEM)
        found = Secret.decode(raw)
        assert len(found.data["secretkey"]) == 22
        await ensure_secret(cluster.api, SYSTEM, "memberlist", "controller")
        assert await cluster.api.get(SECRETS, "memberlist", namespace=SYSTEM) == raw


async def test_its_owner_is_the_deployment() -> None:
    async with open_cluster() as cluster:
        body = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "controller"},
            "spec": {
                "selector": {"matchLabels": {"a": "b"}},
                "template": {
                    "metadata": {"labels": {"a": "b"}},
                    "spec": {"containers": [{"name": "c", "image": "i"}]},
                },
            },
        }
        made = await cluster.api.create(DEPLOYMENTS, body, namespace=SYSTEM)
        await ensure_secret(cluster.api, SYSTEM, "memberlist", "controller")
        owners = decode_meta(await cluster.api.get(SECRETS, "memberlist", namespace=SYSTEM)).owner_references
        assert owners is not None
        (owner,) = owners
        assert (owner.kind, owner.name, owner.uid) == ("Deployment", "controller", decode_meta(made).uid)


async def test_somebody_elses_key_stays() -> None:
    async with open_cluster() as cluster:
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "memberlist"},
            "data": {"secretkey": "bXkgb3du"},
        }
        await cluster.api.create(SECRETS, body, namespace=SYSTEM)
        await ensure_secret(cluster.api, SYSTEM, "memberlist", "")
        assert Secret.decode(await cluster.api.get(SECRETS, "memberlist", namespace=SYSTEM)).data == {
            "secretkey": b"my own"
        }


async def test_it_is_tried_until_it_is_there() -> None:
    async with open_cluster() as cluster:
        cluster.faults.set(
            Rule(verb="get", resource="secrets", status=503, times=1),
            Rule(verb="create", resource="secrets", status=504, applied=True, times=1),
        )
        with trio.fail_after(60):
            await ensure_secret(cluster.api, SYSTEM, "memberlist", "")
        assert cluster.faults.counted["create secrets"] == 1, "made although nobody said so; not made again"
