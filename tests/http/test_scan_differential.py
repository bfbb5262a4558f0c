# SPDX-License-Identifier: MIT
"""proxy/scan against the parsers of nodes' own languages: JavaScript's JSON.parse and Python's json, on documents that
are made up and then damaged, always the same ones. What the scanner takes, both take, and see the same model, name and
stream. What both take and the scanner does not, it refuses for one of the reasons that scan.h names, and rightly so."""

import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DRIVER = ROOT / os.environ.get("MEGALITH_BUILD", "build") / "tests" / "scan_driver"
DOCUMENTS = 4000
DEPTH_MAX = 128
OURS = ("model", "name", "stream")

NODE = r"""
const utf8 = new TextDecoder("utf-8", {fatal: true, ignoreBOM: true});
const input = require("fs").readFileSync(0);
const lines = [];
for (let at = 0; at < input.length;) {
  const len = input.readUInt32BE(at), body = input.subarray(at + 4, at + 4 + len);
  at += 4 + len;
  let value;
  try { value = JSON.parse(utf8.decode(body)); } catch (e) { lines.push("{}"); continue; }
  const seen = {parsed: true, object: value !== null && typeof value === "object" && !Array.isArray(value)};
  if (seen.object)
    for (const key of ["model", "name", "stream"])
      if (Object.hasOwn(value, key)) seen[key] = value[key];
  lines.push(JSON.stringify(seen));
}
process.stdout.write(lines.join("\n") + "\n");
"""


# --- documents ---------------------------------------------------------------------------------------------------

TEXTS = ["llama3", "qwen3:8b", "a/b", "", "false", 'quo"te', "back\\slash", "\b\f\n\r\t\x01", "é", "€uro", "😀", "\u2028\x7f",
         "日本語のモデル", "x" * 255, "y" * 300]
KEYS = ["model", "model", "name", "stream", "messages", "options", "", "models", "ſmodel", "content", "__proto__"]
ODD_KEYS = ["Model", "MODEL", "sTream", "ſtream", "NAME"]
NUMBERS = ["0", "-0", "1", "-12", "0.5", "1e5", "1E-7", "-0.0e+0", "123456789012345678901234567890", "1e999"]
BAD_NUMBERS = ["01", "-01", "1.", "1.e1", "1e", "1e+", "+1", ".5", "-", "0x1", "1_0", "NaN", "-Infinity"]
SPACE = ["", "", "", " ", "\n", "\r\n", "\t", "  "]
DAMAGE = [b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\", b"\\u", b"\\ud83d", b"\\ude00", b"\\u0000", b"0", b"-", b".",
          b"e", b"+", b"\x00", b"\x1f", b"\x7f", b"\x80", b"\xc3", b"\xc0\xaf", b"\xe0\x9f\xbf", b"\xf4\x90\x80\x80",
          b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xff", b"//", b"null", b"NaN", b"'", b"\n", b"\x0c", b"\xc2\xa0",
          b'"model":1,', b'"stream":1,']


class Maker:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def one_in(self, n):
        return self.random.randrange(n) == 0

    def pick(self, items):
        return self.random.choice(items)

    def unit(self, code):
        text = f"\\u{code:04x}"
        return text.upper().replace("\\U", "\\u") if self.one_in(2) else text

    def character(self, c):
        short = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t",
                 "/": "\\/"}
        if ord(c) >= 0x10000 and self.one_in(2):
            return self.unit(0xD800 + (ord(c) - 0x10000 >> 10)) + self.unit(0xDC00 + (ord(c) & 0x3FF))
        if ord(c) < 0x10000 and self.one_in(8):
            return self.unit(ord(c))
        if c in short and (c != "/" or self.one_in(3)):
            return short[c]
        return self.unit(ord(c)) if c < " " else c

    def string(self, text):
        inner = "".join(map(self.character, text))
        if self.one_in(200):
            inner += self.pick(["\\ud83d", "\\uDE00x", "\\u0000", "\\ud800\\ud800"])
        return f'"{inner}"'

    def space(self):
        return self.pick(SPACE)

    def members(self, depth, n):
        keys = [self.pick(ODD_KEYS if self.one_in(60) else KEYS) for _ in range(n)]
        if not self.one_in(8):  # mostly without repetition
            keys = list(dict.fromkeys(keys))
        return ",".join(f"{self.space()}{self.string(k)}{self.space()}:{self.value(depth)}" for k in keys)

    def value(self, depth):
        kind = self.random.randrange(10 if depth < 5 else 6)
        if kind < 3:
            text = self.string(self.pick(TEXTS))
        elif kind < 4:
            text = self.pick(BAD_NUMBERS if self.one_in(20) else NUMBERS)
        elif kind < 6:
            text = self.pick(["true", "false", "null"])
        elif kind < 8:
            text = "{" + self.members(depth + 1, self.random.randrange(4)) + self.space() + "}"
        else:
            items = [self.value(depth + 1) for _ in range(self.random.randrange(4))]
            text = "[" + (",".join(items) or self.space()) + "]"
        return self.space() + text + self.space()

    def document(self):
        if self.one_in(40):
            return self.value(0).encode()
        if self.one_in(40):
            return b"\xef\xbb\xbf" + self.value(0).encode()
        members = self.members(1, self.random.randrange(7))
        if self.one_in(20):
            depth = self.random.randrange(DEPTH_MAX - 3, DEPTH_MAX + 3)
            members = '"deep":' + "[" * depth + "]" * depth + ("," + members if members else "")
        return f"{self.space()}{{{members}{self.space()}}}{self.space()}".encode()

    def damaged(self, body):
        body = bytearray(body)
        for _ in range(self.random.randrange(1, 3)):
            if self.one_in(3):  # inside a string, or behind a key
                places = [i for i in range(len(body)) if body[i] in b'":']
                if places:
                    at = self.pick(places) + (1 if self.one_in(2) else 0)
                    body[at:at + 1] = self.pick(DAMAGE)
                    continue
            at, until = sorted(self.random.randrange(len(body) + 1) for _ in range(2))
            until = min(until, at + 12)
            kind = self.random.randrange(5)
            if kind == 0:
                del body[at:at + 1]
            elif kind == 1:
                body[at:at] = self.pick(DAMAGE)
            elif kind == 2:
                body[at:at + 1] = self.pick(DAMAGE)
            elif kind == 3:
                body[at:at] = body[at:until]
            else:
                del body[at:until]
        return bytes(body)


def documents():
    maker = Maker(20240607)
    whole = [maker.document() for _ in range(DOCUMENTS // 2)]
    return whole + [maker.damaged(body) for body in whole]


# --- what each sees ----------------------------------------------------------------------------------------------


def run(command, bodies):
    framed = b"".join(len(body).to_bytes(4, "big") + body for body in bodies)
    done = subprocess.run(command, input=framed, stdout=subprocess.PIPE, check=True, timeout=60)
    return done.stdout.decode().rstrip("\n").split("\n")


class Pairs(list):
    """An object as its members in order: none is lost when a key comes twice."""


def refuse(word):
    raise ValueError(word)


def by_python(body):
    """None: refused."""
    try:
        return [json.loads(body.decode(), object_pairs_hook=Pairs, parse_constant=refuse, parse_int=float)]
    except ValueError:
        return None


def kind_of(value):
    return ("string", value) if isinstance(value, str) else ("other",)


def by_scanner(line, body):
    """The error and None, or None and what is seen of each key."""
    verdict, *rest = line.split("\t")
    if verdict == "-":
        return rest[0], None
    seen = {}
    for key, field in zip(("model", "name"), rest):
        word, *where = field.split(" ")
        if word == "absent":
            continue
        at, size = int(where[0]), int(where[1])
        raw = json.loads(body[at:at + size])  # what would be replaced is one whole value
        if word == "string":
            text = bytes.fromhex(where[2]).decode()
            assert raw == text or len(raw.encode()) > 255 and raw.startswith(text), "the raw value says the same"
        assert (word == "string") == isinstance(raw, str)
        seen[key] = kind_of(raw)
    if rest[2] != "absent":
        seen["stream"] = rest[2] == "true"
    return None, seen


def expected(members):
    seen = {key: kind_of(members[key]) for key in ("model", "name") if key in members}
    if "stream" in members:
        seen["stream"] = members["stream"] is not False
    return seen


# --- why the scanner may refuse what they take -------------------------------------------------------------------


def strings_in(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, Pairs):
        for key, member in value:
            yield key
            yield from strings_in(member)
    elif isinstance(value, list):
        for item in value:
            yield from strings_in(item)


def depth_of(value):
    if isinstance(value, Pairs):
        return 1 + max((depth_of(member) for _, member in value), default=0)
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


def is_twice(value):
    keys = [key for key, _ in value]
    return any(keys.count(key) > 1 for key in OURS)


def is_odd(value):
    return any(key not in OURS and key.casefold() in OURS for key, _ in value)


REASONS = {
    "not a JSON object (which begins with {, without a BOM)": lambda value: not isinstance(value, Pairs),
    "half of a surrogate pair in a string": lambda value: any(
        0xD800 <= ord(c) <= 0xDFFF for text in strings_in(value) for c in text),
    "\\u0000 in a string": lambda value: any("\0" in text for text in strings_in(value)),
    "objects and arrays are nested too deep": lambda value: depth_of(value) > DEPTH_MAX,
    **{f'"{key}" is given twice': is_twice for key in OURS},
    **{f'a key is "{key}" but for its case': is_odd for key in OURS},
}


def compare(body, line, node_line, counts):
    error, seen = by_scanner(line, body)
    node, python = json.loads(node_line), by_python(body)
    if error is None:
        assert node.get("object") and python is not None and isinstance(python[0], Pairs), "both take what is taken"
        assert seen == expected({key: node[key] for key in OURS if key in node}), "the same as JSON.parse"
        assert seen == expected(dict(python[0])), "the same as json.loads"
        counts["taken"] += 1
    elif node.get("parsed") and python is not None:
        assert error in REASONS, f"both take it, the scanner says: {error}"
        assert REASONS[error](python[0]), f"not so: {error}"
        counts[error] = counts.get(error, 0) + 1
    else:
        counts["refused"] += 1


def test_scan__sees_what_nodes_see():
    if not shutil.which("node"):
        pytest.skip("node is not installed")
    bodies, counts = documents(), {"taken": 0, "refused": 0}
    lines, node_lines = run([DRIVER], bodies), run(["node", "-e", NODE], bodies)
    assert len(lines) == len(node_lines) == len(bodies)
    for body, line, node_line in zip(bodies, lines, node_lines):
        try:
            compare(body, line, node_line, counts)
        except AssertionError as error:
            raise AssertionError(f"{error}\nbody: {body!r}\nscanner: {line}\nnode: {node_line}") from None
    print(counts)
    assert counts["taken"] > DOCUMENTS / 4 and counts["refused"] > DOCUMENTS / 10
    assert set(REASONS) < set(counts), "each reason came up"
