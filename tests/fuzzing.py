"""Damage inputs until a decoder breaks: the frame around the decoders of each library.

An input that ends in a way not seen before (another error, another mix of messages) is kept and mutated
further; `--save` adds it to the corpus, which the tests replay.  What no decoder may do is written down in
the targets; the first offence ends the run with the input in hexadecimal.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

Target = Callable[[bytes], Hashable]
"""Raises one of the errors a decoder may raise, or returns what kind of thing it read."""

MAX_KEPT: Final = 500
"""Octets of an input that is worth keeping."""


@dataclass(frozen=True)
class Fuzzer:
    corpus: Path
    """A directory, with a file for each target."""
    targets: Mapping[str, Target]
    errors: tuple[type[Exception], ...]
    """What a decoder may raise."""
    more_seeds: Callable[[str], Iterable[bytes]]
    """For a target, beside its corpus."""
    interesting: tuple[bytes, ...]
    """What takes the place of an octet."""
    longest: int
    """Octets of a mutated input."""
    accident: str = r"\d+"
    """What may differ between two errors of one kind: a regular expression."""

    def outcome(self, name: str, data: bytes) -> tuple[str, Hashable]:
        """`ok` or `error`, and a mark of how it came to that.  Whatever else is raised goes through."""
        try:
            return "ok", self.targets[name](data)
        except self.errors as problem:
            return "error", re.sub(self.accident, "#", str(problem))[:80]

    def load(self, name: str) -> list[tuple[str, bytes]]:
        """The corpus of a target: lines of the outcome and the input in hexadecimal."""
        path = self.corpus / f"{name}.txt"
        if not path.exists():
            return []
        lines = (line.split() for line in path.read_text().splitlines())
        return [(words[0], bytes.fromhex("".join(words[1:]))) for words in lines]

    def seeds(self, name: str) -> list[bytes]:
        return [data for _, data in self.load(name)] + list(self.more_seeds(name))

    def mutate(self, rng: random.Random, seeds: list[bytes]) -> bytes:
        result = bytearray(rng.choice(seeds))
        for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
            at = rng.randrange(len(result) + 1)
            span = rng.choice((1, 1, 2, 4, 16))
            match rng.randrange(8):
                case 0 if at < len(result):
                    result[at] ^= 1 << rng.randrange(8)
                case 1:
                    result[at : at + 1] = rng.choice(self.interesting)
                case 2:
                    del result[at : at + span]
                case 3:
                    result[at:at] = result[at : at + span] * rng.choice((1, 2, 64))
                case 4 if at < len(result):
                    result[at] = (result[at] + rng.choice((-1, 1))) & 0xFF  # a length that is nearly right
                case 5:
                    result[at:at] = rng.randbytes(span)
                case 6:
                    other = rng.choice(seeds)
                    start = rng.randrange(len(other) + 1)
                    result[at : at + span] = other[start : start + rng.choice((4, 32, 1000))]
                case _:
                    del result[at:]
        return bytes(result[: self.longest])

    def some(self, name: str, count: int) -> None:
        """So many inputs, the same ones each time: the run proper takes other seeds."""
        rng, seeds = random.Random(name), self.seeds(name)
        for _ in range(count):
            self.outcome(name, self.mutate(rng, seeds))

    def run(self, name: str, seconds: float, rng: random.Random) -> tuple[int, list[tuple[str, bytes]]]:
        """How many inputs were tried, and those that ended in a new way."""
        seen = {self.outcome(name, data) for _, data in self.load(name)}
        seeds = self.seeds(name)
        found: list[tuple[str, bytes]] = []
        waiting = list(seeds)
        count, until = 0, time.monotonic() + seconds
        while time.monotonic() < until:
            data = waiting.pop() if waiting else self.mutate(rng, seeds)
            count += 1
            try:
                ended = self.outcome(name, data)
            except Exception:
                print(f"{name} fails on {data.hex()}", file=sys.stderr)
                raise
            if ended not in seen and len(data) < MAX_KEPT:
                seen.add(ended)
                seeds.append(data)
                found.append((ended[0], data))
        return count, found

    def main(self) -> None:
        parser = argparse.ArgumentParser(description="Damage inputs until a decoder breaks.")
        parser.add_argument("--seconds", type=float, default=10.0, help="for each target (default 10)")
        parser.add_argument("--seed", type=int, default=None)
        parser.add_argument("--target", choices=self.targets, action="append")
        parser.add_argument("--save", action="store_true", help="add what ended in a new way to the corpus")
        args = parser.parse_args()
        seed = random.randrange(1 << 32) if args.seed is None else args.seed
        print(f"seed {seed}")
        for name in args.target or self.targets:
            count, found = self.run(name, args.seconds, random.Random(f"{seed}{name}"))
            print(f"{name:<14} {count:>9,} inputs, {len(found):>4} new endings")
            if args.save and found:
                with (self.corpus / f"{name}.txt").open("a") as file:
                    file.writelines(f"{kind} {data.hex()}\n" for kind, data in found)
