#!/usr/bin/env python3
"""Check proofs that entries stand in a Veyra audit log: one file, the standard library of Python 3.8 or later alone.

    python verify_proof.py BUNDLE.json --key 'NAME+HASH+BASE64'

Exit status: 0 proven, 1 not proven, 2 it cannot be said (no key from elsewhere was given, or no file can be read).

`veyra audit prove` puts a copy of this file beside each bundle, and the library verifies with the same code. Who does
not trust the sender takes this file from somewhere else; it is meant to be read.

What is checked, for each entry of a bundle:

1. The checkpoint (C2SP tlog-checkpoint) is signed by the key (C2SP signed-note, Ed25519 of RFC 8032): by the one that
   was given, or by one that it handed over to.
2. The leaf and the hashes of its proof (C2SP tlog-proof, RFC 6962 section 2.1.1) give the root in that checkpoint.
3. Each opened part is what the leaf commits to: HMAC-SHA-256 under the part's salt.

Every function raises `ValueError` on what is not exactly as it should be, in time bounded by the size of its input.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
import sys
from hashlib import sha256, sha512
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn, TypeAlias

    _Point: TypeAlias = tuple[int, int, int, int]

MAX_NOTE = 65_536
MAX_BUNDLE = 256 << 20
MAX_SIGNATURES = 64
MAX_PATH = 63
MAX_HANDOVERS = 1_000
HEADER = "c2sp.org/tlog-proof@v1"
ED25519 = b"\x01"
EMPTY_ROOT = sha256(b"").digest()

_count = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII).fullmatch
_control = re.compile("[\x00-\x09\x0b-\x1f]").search


def _fail(message: str) -> NoReturn:
    raise ValueError(message)


def unbase64(text: str) -> bytes:
    """Return the bytes of standard base64 in its one canonical spelling."""
    try:
        data = binascii.a2b_base64(text.encode("ascii"))
    except (ValueError, UnicodeEncodeError):
        _fail("not base64")
    return data if base64.b64encode(data).decode() == text else _fail("not canonical base64")


# -------------------------------------------------------------------- Ed25519 (RFC 8032, section 5.1), verifying only

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, _P - 2, _P) % _P
_I = pow(2, (_P - 1) // 4, _P)

# A point is X, Y, Z, T in extended coordinates: x = X/Z, y = Y/Z, xy = T/Z.


def _x_of(y: int, sign: int) -> int:
    square = (y * y - 1) * pow(_D * y * y + 1, _P - 2, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _I % _P
    if (x * x - square) % _P or (x == 0 and sign):
        _fail("no point of the curve")
    return _P - x if x & 1 != sign else x


def _decode(data: bytes) -> _Point:
    number = int.from_bytes(data, "little")
    y = number & ((1 << 255) - 1)
    if len(data) != 32 or y >= _P:
        _fail("no point of the curve")
    x = _x_of(y, number >> 255)
    return x, y, 1, x * y % _P


def _encode(point: _Point) -> bytes:
    inverse = pow(point[2], _P - 2, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _add(p: _Point, q: _Point) -> _Point:
    a = (p[1] - p[0]) * (q[1] - q[0]) % _P
    b = (p[1] + p[0]) * (q[1] + q[0]) % _P
    c = 2 * p[3] * q[3] * _D % _P
    d = 2 * p[2] * q[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _sum(a: int, p: _Point, b: int, q: _Point) -> _Point:
    """Return a*p + b*q, both at once."""
    both, total = _add(p, q), (0, 1, 1, 0)
    for bit in range(max(a.bit_length(), b.bit_length()) - 1, -1, -1):
        total = _add(total, total)
        which = (a >> bit & 1) + 2 * (b >> bit & 1)
        if which:
            total = _add(total, (p, q, both)[which - 1])
    return total


_BASE = _decode((4 * pow(5, _P - 2, _P) % _P).to_bytes(32, "little"))


def is_signature(public: bytes, message: bytes, signature: bytes) -> bool:
    """Tell whether `signature` is the Ed25519 signature of `message` under the key `public`.

    As strict as Go's crypto/ed25519: S is below the group's order, and R is compared as bytes.
    """
    scalar = int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or scalar >= _L:
        return False
    try:
        x, y, z, t = _decode(public)
    except ValueError:
        return False
    digest = int.from_bytes(sha512(signature[:32] + public + message).digest(), "little") % _L
    return _encode(_sum(scalar, _BASE, digest, (-x % _P, y, z, -t % _P))) == signature[:32]


# ------------------------------------------------------------------------------------- signed notes and checkpoints


class Key(NamedTuple):
    """A verifier key of a signed note; `text` is how it is written: NAME+HASH+BASE64."""

    name: str
    id: bytes
    public: bytes

    @property
    def text(self) -> str:
        """The verifier key as Go's sumdb/note writes it."""
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(ED25519 + self.public).decode()}"


class Signature(NamedTuple):
    """One signature line of a note: the key's name and id, and the signature's bytes."""

    name: str
    id: bytes
    value: bytes


class Checkpoint(NamedTuple):
    """A log's size and root at one moment, and who signed it (nobody, where `signatures` is empty)."""

    origin: str
    size: int
    root: bytes
    signatures: tuple[Signature, ...] = ()

    @property
    def body(self) -> bytes:
        """The text that is signed: origin, size and root on a line each."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n".encode()

    def is_signed_by(self, key: Key) -> bool:
        """Tell whether the key signed it; a line under the key's name and id that does not verify is a `ValueError`."""
        found = [s for s in self.signatures if (s.name, s.id) == (key.name, key.id)]
        if not all(is_signature(key.public, self.body, signature.value) for signature in found):
            _fail(f"the signature of the key {key.name}+{key.id.hex()} is not right")
        return bool(found)


def is_key_name(name: str) -> bool:
    """Tell whether a key may be called so: not empty, no space and no plus sign."""
    return bool(name) and "+" not in name and not any(c.isspace() or ord(c) < 32 for c in name)


def key_id(name: str, public: bytes) -> bytes:
    """Return the first four bytes of SHA-256 over name, newline, kind and public key."""
    return sha256(name.encode() + b"\n" + ED25519 + public).digest()[:4]


def parse_key(text: str) -> Key:
    """Return the Ed25519 verifier key NAME+HASH+BASE64."""
    fields = text.split("+", 2)
    if len(fields) != 3 or not is_key_name(fields[0]) or len(fields[2]) != 44:
        _fail("not a verifier key: it is written NAME+HASH+BASE64")
    data = unbase64(fields[2])
    key = Key(fields[0], key_id(fields[0], data[1:]), data[1:])
    if data[:1] != ED25519 or key.text != text:
        _fail("not an Ed25519 verifier key, or its hash is not right")
    return key


def parse_checkpoint(data: bytes) -> Checkpoint:
    """Return the checkpoint in a note, signed or not; its signatures are not verified here."""
    if len(data) > MAX_NOTE:
        _fail("a checkpoint that is too long")
    text = data.decode("utf-8")
    body, gap, signed = text.partition("\n\n")
    lines = (body if gap else body[:-1]).split("\n")
    if _control(text) or not text.endswith("\n") or len(lines) != 3 or not lines[0] or not _count(lines[1]):
        _fail("not the body of a tlog-checkpoint note")
    root = unbase64(lines[2])
    if len(root) != 32:
        _fail("the root of a checkpoint is no SHA-256")
    signatures = tuple(map(_signature, signed[:-1].split("\n"))) if gap else ()
    if len(signatures) > MAX_SIGNATURES:
        _fail("a checkpoint with too many signatures")
    return Checkpoint(lines[0], int(lines[1]), root, signatures)


def _signature(line: str) -> Signature:
    fields = line.split(" ")
    if len(fields) != 3 or fields[0] != "\N{EM DASH}" or not is_key_name(fields[1]):
        _fail("not a signature line of a note")
    data = unbase64(fields[2])
    return Signature(fields[1], data[:4], data[4:]) if len(data) > 4 else _fail("a signature that is too short")


def handover_text(origin: str, old: str, new: str) -> bytes:
    """Return what a key signs to hand over to the next one, both given as verifier keys."""
    return f"veyra.key.handover.v1\n{origin}\n{old}\n{new}\n".encode()


# ------------------------------------------------------------------------------- Merkle proofs (RFC 6962, RFC 9162)


def leaf_hash(leaf: bytes) -> bytes:
    """Return a leaf's hash."""
    return sha256(b"\x00" + leaf).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def root_from(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """Return the root that an inclusion proof gives for the leaf hash at `index` in a tree of `size`."""
    if not 0 <= index < size:
        _fail("the entry's place lies outside the tree")
    inner = (index ^ (size - 1)).bit_length()
    if len(path) != inner + bin(index >> inner).count("1"):  # noqa: FURB161  (Python 3.8)
        _fail("an inclusion proof of the wrong length")
    node = leaf
    for level, other in enumerate(path):
        is_right = level >= inner or index >> level & 1
        node = _node(other, node) if is_right else _node(node, other)
    return node


def is_consistent(old: Checkpoint, new: Checkpoint, path: Sequence[bytes]) -> bool:
    """Tell whether the proof shows that the tree of `new` begins with the tree of `old` (RFC 9162, section 2.1.4.2)."""
    if old.size > new.size or old.origin != new.origin:
        return False
    if old.size in {0, new.size}:
        return not path and old.root == (EMPTY_ROOT if old.size == 0 else new.root)
    hashes = list(path) if old.size & (old.size - 1) else [old.root, *path]
    first, last = old.size - 1, new.size - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    if not hashes:
        return False
    left = right = hashes[0]
    for other in hashes[1:]:
        if last == 0:
            return False
        if first & 1 or first == last:
            left, right = _node(other, left), _node(other, right)
            while first and not first & 1:
                first, last = first >> 1, last >> 1
        else:
            right = _node(right, other)
        first, last = first >> 1, last >> 1
    return last == 0 and left == old.root and right == new.root


class Proof(NamedTuple):
    """A .tlog-proof: an entry's place, the hashes beside its way to the root, and the checkpoint with that root."""

    seq: int
    path: tuple[bytes, ...]
    checkpoint: Checkpoint


def parse_proof(data: bytes) -> Proof:
    """Return a C2SP tlog-proof; extra data is not taken, as nothing vouches for it."""
    head, gap, note = data.partition(b"\n\n")
    lines = head[: MAX_NOTE + 1].decode("ascii").split("\n")
    if len(head) > MAX_NOTE or not gap or len(lines) < 2 or lines[0] != HEADER or not lines[1].startswith("index "):
        _fail("not a tlog-proof")
    if not _count(lines[1][6:]) or len(lines) > MAX_PATH + 2:
        _fail("not a tlog-proof: its index or the number of its hashes")
    path = tuple(map(unbase64, lines[2:]))
    if any(len(item) != 32 for item in path):
        _fail("not a tlog-proof: a hash of the wrong length")
    return Proof(int(lines[1][6:]), path, parse_checkpoint(note))


def check_proof(leaf: bytes, proof: Proof) -> None:
    """Check that `leaf` stands at the proof's place in the tree of its checkpoint (whose signatures are not checked)."""
    if root_from(leaf_hash(leaf), proof.seq, proof.checkpoint.size, proof.path) != proof.checkpoint.root:
        _fail("the entry and its proof do not give the root of the checkpoint")


# -------------------------------------------------------------------------------------------------------- bundles


class Part(NamedTuple):
    """An opened part: its name and its bytes, which are what the entry commits to."""

    name: str
    data: bytes


class Proven(NamedTuple):
    """An entry that is proven to stand in the log: its place, its leaf, and the parts that were opened."""

    seq: int
    leaf: dict[str, Any]
    parts: list[Part]


class Verdict(NamedTuple):
    """What a bundle proves.

    `key` signed the checkpoint. `trusted` tells whether it was given, or is one that a given key handed over to;
    otherwise the bundle is in itself right, and whose key it is remains to be known.
    """

    entries: list[Proven]
    checkpoint: Checkpoint
    key: Key
    trusted: bool


def check_bundle(data: bytes, trusted: Sequence[Key]) -> Verdict:
    """Check a bundle from `veyra audit prove`; raises `ValueError` with the reason where anything in it is not right."""
    try:
        bundle = json.loads(data.decode("ascii")) if len(data) <= MAX_BUNDLE else _fail("it is too long")
        return _check_bundle(bundle, trusted)
    except (KeyError, TypeError, IndexError, AttributeError, RecursionError):
        _fail("not a bundle of proofs, or one that is damaged")


def _check_bundle(bundle: dict[str, Any], trusted: Sequence[Key]) -> Verdict:
    if bundle["veyra.proof"] != 1 or not bundle["entries"] or len(bundle["handovers"]) > MAX_HANDOVERS:
        _fail("not a bundle of proofs of version 1")
    proofs = [parse_proof(entry["proof"].encode("utf-8")) for entry in bundle["entries"]]
    checkpoint = proofs[0].checkpoint
    if any(proof.checkpoint != checkpoint for proof in proofs):
        _fail("the proofs are not under one checkpoint")
    given = list(trusted)
    for line in bundle["handovers"]:
        given += _handed_over(line, checkpoint.origin, given)
    key = next((key for key in reversed(given) if checkpoint.is_signed_by(key)), None)
    own = parse_key(bundle["key"])
    if key is None and (trusted or not checkpoint.is_signed_by(own)):
        _fail("the checkpoint is not signed by that key")
    entries = [_check_entry(entry, proof) for entry, proof in zip(bundle["entries"], proofs)]  # noqa: B905  (Python 3.8)
    return Verdict(entries, checkpoint, key or own, key is not None)


def _handed_over(line: dict[str, str], origin: str, given: Sequence[Key]) -> list[Key]:
    old, new = parse_key(line["from"]), parse_key(line["to"])
    if old not in given or new in given:
        return []
    if not is_signature(old.public, handover_text(origin, old.text, new.text), unbase64(line["sig"])):
        _fail(f"the key {old.name}+{old.id.hex()} did not sign its handing over")
    return [new]


def _check_entry(entry: dict[str, Any], proof: Proof) -> Proven:
    raw = entry["leaf"].encode("ascii")
    check_proof(raw, proof)
    leaf = json.loads(raw)
    if not isinstance(leaf, dict):
        _fail("the leaf is no JSON object")
    named = {part["name"]: part for part in leaf.get("parts", [])}
    return Proven(proof.seq, leaf, [_check_part(part, named[part["name"]]) for part in entry["parts"]])


def _check_part(part: dict[str, Any], described: dict[str, Any]) -> Part:
    data, name = unbase64(part["data"]), described["name"]
    text = b"veyra.part.v1\0" + name.encode("ascii") + b"\0" + len(data).to_bytes(8, "big") + data
    commit = hmac.new(bytes.fromhex(part["salt"]), text, sha256).hexdigest()
    if len(data) != described["size"] or not hmac.compare_digest(commit, described["commit"]):
        _fail(f"the part {name!r} is not what the entry commits to")
    return Part(name, data)


# ------------------------------------------------------------------------------------------------------ the command


def describe(verdict: Verdict) -> list[str]:
    """Return what a verdict says, in lines of ASCII."""
    lines = [
        f"log         {ascii(verdict.checkpoint.origin)[1:-1]}",
        f"checkpoint  {verdict.checkpoint.size} entries, root {verdict.checkpoint.root.hex()}",
        f"signed by   {ascii(verdict.key.text)[1:-1]}",
    ]
    for entry in verdict.entries:
        kind, ident = (ascii(entry.leaf.get(name))[1:-1] for name in ("kind", "id"))
        lines.append(f"entry       {entry.seq}: {kind} {ident}")
        lines += [f"  opened    {part.name} ({len(part.data)} bytes)" for part in entry.parts]
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the bundle that the arguments name, say what it proves, and return the exit status."""
    import argparse  # noqa: PLC0415  (for the program alone: who imports this file needs none)

    parser = argparse.ArgumentParser(description="Check a bundle of proofs from a Veyra audit log.")
    parser.add_argument("file", metavar="BUNDLE", help="the bundle, a JSON file")
    parser.add_argument("--key", action="append", default=[], help="the log's verifier key, known from elsewhere")
    parser.add_argument("--show", metavar="PART", help="write this opened part to standard output, and nothing else")
    chosen = parser.parse_args(arguments)
    try:
        with open(chosen.file, "rb") as file:  # noqa: PTH123  (as plain as can be)
            data = file.read(MAX_BUNDLE + 1)
        keys = [parse_key(text.strip()) for text in chosen.key]
    except (OSError, ValueError) as error:
        sys.stderr.write(f"cannot be checked: {error}\n")
        return 2
    try:
        verdict = check_bundle(data, keys)
    except ValueError as error:
        sys.stdout.write(f"NOT PROVEN: {error}\n")
        return 1
    if chosen.show:
        parts = (part for entry in verdict.entries for part in entry.parts)
        sys.stdout.buffer.write(next((part.data for part in parts if part.name == chosen.show), b""))
    else:
        sys.stdout.write("\n".join(describe(verdict)) + "\n")
        known = "PROVEN: each entry stands in this log, unaltered.\n"
        sys.stdout.write(known if verdict.trusted else "The proofs are right if that key is the log's: give --key.\n")
    return 0 if verdict.trusted else 2


if __name__ == "__main__":
    sys.exit(main())
