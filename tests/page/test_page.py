"""The page as a document: nothing from the cluster breaks out of it, and everybody can read it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator.page import html
from allocator.page.serve import StatusPage
from allocator.page.timeline import draw, stretches
from crier.inspect.moves import Move
from crier.inspect.overview import Overview, PoolLine, Problem, VipLine, overview
from crier.kube import resources
from tests.cli.pictures import picture, taken
from tests.speaker.planner.lab import open_cluster

VOID = {"meta", "link", "br"}


class Reader(HTMLParser):
    """Elements with their attributes, and the text outside of style and script."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.inside: list[str] = []
        self.raw: dict[str, list[str]] = {"style": [], "script": []}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID and tag not in ("rect", "line"):
            self.inside.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.inside.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.inside and self.inside[-1] in self.raw:
            self.raw[self.inside[-1]].append(data)
        else:
            self.words.append(data)

    def all(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes in self.elements if name == tag)


def busy() -> Overview:
    owner = overview(picture()).vips[0].owner
    events = (
        taken("default/web", "iris1", "2027-01-15T07:50:00Z"),
        taken("default/web", owner, "2027-01-15T07:55:00Z"),
    )
    found = overview(picture(dead=["iris2"], events=events))
    return replace(found, at="2027-01-15T08:00:00Z")


def test_it_says_what_there_is_to_say() -> None:
    found = Reader(html.page(busy(), "0.1.0"))
    words = " ".join(found.words)
    for text in ("10.20.30.1", "default/web", "iris1", "iris2", "dead", "10.20.30.0/24", "problem", "leads"):
        assert text in words, text
    assert not found.inside, "every element is closed"


def test_everybody_can_read_it() -> None:
    found = Reader(html.page(busy(), "0.1.0"))
    assert next(found.all("html"))["lang"] == "en"
    tables = sum(1 for _ in found.all("table"))
    assert tables >= 4
    assert sum(1 for _ in found.all("caption")) == tables
    assert all(cell.get("scope") == "col" for cell in found.all("th"))
    assert all(meter["aria-label"] for meter in found.all("meter"))
    pictures = list(found.all("svg"))
    assert pictures
    assert all(each["role"] == "img" and each["aria-label"] for each in pictures)
    assert sum(1 for _ in found.all("h1")) == 1


def test_only_our_own_style_and_script_may_run() -> None:
    found = Reader(html.page(busy(), "0.1.0"))
    policy = dict(html.headers())["content-security-policy"]
    for tag in ("style", "script"):
        (text,) = ("".join(found.raw[tag]),)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for _, attributes in found.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("src", "href"):
            assert not (attributes.get(name) or "").startswith(("http", "//")), (
                "nothing is fetched from elsewhere"
            )


HOSTILE = st.text(max_size=30) | st.sampled_from(
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=y>',
        "</style><b>",
        "{0}{css}",
        "&lt;",
        "]]>",
        "'onload='",
    ]
)


@settings(max_examples=60)
@given(HOSTILE, HOSTILE, HOSTILE)
def test_nothing_from_the_cluster_breaks_out(one: str, two: str, three: str) -> None:
    usual = busy()
    tame = [tag for tag, _ in Reader(html.page(named(usual, "a", "b", "c"), "1")).elements]
    wild = Reader(html.page(named(usual, one, two, three), "1"))
    assert [tag for tag, _ in wild.elements] == tame
    assert not wild.inside


def named(usual: Overview, one: str, two: str, three: str) -> Overview:
    vip = VipLine(
        one, (two,), three, (two,), one, (two,), (three,), (three,), (one,), (two,), "conflict", f"!{three}"
    )
    pool = PoolLine(one, (two,), 1, 2, 33.3, True)
    moves = (Move("2027-01-15T07:55:00Z", f"x{one}", "iris1", "layer2", ""),)
    nodes = tuple(replace(node, silence=f"!{two}", speaker=three) for node in usual.nodes)
    problem = Problem("error", one, two)
    return replace(
        usual, vips=(vip,), pools=(pool,), moves=moves, nodes=nodes, problems=(problem,), namespace=three
    )


def colours(mode: str) -> dict[str, str]:
    css = html.asset("page.css")
    start = css.index("prefers-color-scheme: dark") if mode == "dark" else 0
    block = css[css.index(":root {", start) :]
    return dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", block[: block.index("}")]))


def luminance(colour: str) -> float:
    """WCAG 2.2's relative luminance."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_contrast(mode: str) -> None:
    """WCAG 2.2 AA: 4.5 to 1 for text; the white names in the picture's bars among it."""
    found = colours("light") | colours(mode)  # the dark one says what is different
    pairs = [(text, ground) for text in ("ink", "soft", "accent") for ground in ("ground", "card")]
    pairs += [(tone, f"{tone}-back") for tone in ("good", "warn", "bad", "info")] + [("soft", "track")]
    shades = [(found[text], found[ground]) for text, ground in pairs]
    shades += [("#ffffff", found[f"n{number}"]) for number in range(html.PALETTE)]
    for one, other in shades:
        brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
        ratio = (brighter + 0.05) / (darker + 0.05)
        assert ratio >= 4.5, (mode, one, other, round(ratio, 2))


def test_the_picture_has_every_stretch() -> None:
    found = busy()
    now = 1_800_000_000.0
    (row,) = stretches(found, now).values()
    assert [each.end - each.begin for each in row] == [300.0, 300.0]
    assert row[-1].end == now
    assert draw(found, {}).count("<rect") == 2
    assert draw(replace(found, moves=()), {}) == ""


async def test_many_who_ask_at_once_cost_one_look() -> None:
    async with open_cluster() as cluster:
        await cluster.make(resources.SERVICE_ACCOUNTS, "crier-viewer", "metallb-system")
        await cluster.make_service("web", "10.20.30.1")
        page = StatusPage(cluster.api, "metallb-system", "1")
        lists = 0
        pages = cluster.api.list_pages

        def counted(*args: object, **kwargs: object) -> object:
            nonlocal lists
            lists += args[0] is resources.SERVICES
            return pages(*args, **kwargs)  # type: ignore[arg-type]

        cluster.api.list_pages = counted  # type: ignore[method-assign, assignment]
        answers: list[int] = []

        async def ask() -> None:
            answers.append((await page.show()).status)

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(ask)
        assert answers == [200] * 20
        assert lists == 1
        assert b"10.20.30.1" in (await page.document()).body


async def test_without_an_api_it_says_so() -> None:
    async with open_cluster() as cluster:
        page = StatusPage(cluster.api, "metallb-system", "1")
        cluster.faults.set_outage(True)
        assert (await page.show()).status == 503
