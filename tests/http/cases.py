#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Reads requests.cases and responses.cases, whose first lines say how they are written (tests/unit/http1_cases.h reads
the same). As a program it writes the bytes of each case to a file: seeds for fuzzers.

    cases.py FILE FOLDER [bodies]     bodies: only what is behind the heads that announce chunks

tests/fuzz/seeds has files of the same kind, whose cases have no verdict.
"""
import re
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
SEED_MAX = 4096
PLAIN = {"r": b"\r", "n": b"\n", "t": b"\t", "\\": b"\\", "0": b"\0"}
ESCAPE = re.compile(r"\\(?:([rnt\\0])|x([0-9a-f]{2})|\((\w+)\)|\{(\d+) (.*?)\}|(.|$))")


@dataclass
class Case:
    name: str
    sentence: str
    data: bytes = b""
    verdict: str = ""      # "taken", "cut", "refused"
    status: int = 0        # of a refusal
    seen: bytes | None = b""  # None: does not matter
    head: bool = False     # answers a HEAD
    parser: bool = False   # the router's verdict is another

    def messages(self):
        """What is seen of each whole message: (b"GET /" or b"200", body)."""
        what = rb"\d{3}|[A-Z]+ \S+"
        return re.findall(rb"(%s) \[(.*?)\]\.(?=$|(?:%s) \[)" % (what, what), self.seen or b"", re.DOTALL)


def decode(text, lets):
    def one(match):
        plain, code, name, times, repeated, other = match.groups()
        if other is not None:
            raise ValueError(f"unknown escape \\{other} in {text!r}")
        if plain:
            return PLAIN[plain]
        if code:
            return bytes([int(code, 16)])
        return lets[name] if name else decode(repeated, lets) * int(times)

    parts, at = [], 0
    for match in ESCAPE.finditer(text):
        parts += [text[at:match.start()].encode(), one(match)]
        at = match.end()
    return b"".join(parts) + text[at:].encode()


def read(name):
    """`name`: of a file beside this one, or a path."""
    cases, lets = [], {}
    for number, line in enumerate((HERE / name).read_text().splitlines(), 1):
        mark, rest = line[:2], line[2:]
        if not line or line[0] == "#":
            continue
        if match := re.fullmatch(r"let (\w+) = (.*)", line):
            lets[match[1]] = decode(match[2], lets)
        elif match := re.fullmatch(r"\[([\w-]+)\] (.+)", line):
            cases.append(Case(*match.groups()))
        elif mark == "> ":
            cases[-1].data += decode(rest, lets)
        elif mark == "= ":
            cases[-1].verdict = rest if rest in ("taken", "cut") else "refused"
            cases[-1].status = int(rest) if rest.isdigit() else 0
        elif line == "~ *":
            cases[-1].seen = None
        elif mark == "~ ":
            cases[-1].seen += decode(rest, lets)
        elif line in ("+ head", "+ parser"):
            setattr(cases[-1], rest, True)
        else:
            raise ValueError(f"{name}:{number}: no such line")
    names = [case.name for case in cases]
    assert len(set(names)) == len(names), f"{name}: a name twice"
    return cases


def write_seeds(name, folder, bodies):
    for case in read(name):
        data = case.data
        if bodies:
            head, _, data = data.partition(b"\r\n\r\n")
            if not re.search(rb"(?i)\r\ntransfer-encoding:\s*chunked\s*$", head):
                continue
        if len(data) <= SEED_MAX:
            (Path(folder) / case.name).write_bytes(data)


if __name__ == "__main__":
    write_seeds(sys.argv[1], sys.argv[2], sys.argv[3:] == ["bodies"])
