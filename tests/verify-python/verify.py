"""Checks an export of a garant log with the package aics-tlog: not a line of garant, and none of the Go verifier.

    verify.py DIRECTORY [--vkey KEY] [--witness KEY]... [--since CHECKPOINT]

Verifies the signature of the checkpoint, cosignatures, every tile and every entry against the signed root, every proof
file, and consistency with an older checkpoint. Payloads and completeness are the business of verify-go and of
`garant verify`. Needs Python 3.12 and what requirements.txt names. Exit code 0 when everything holds, 1 when not.
"""

import argparse
import base64
import pathlib
import sys

import aics_tlog as tlog


class Refused(Exception):
    """Something does not hold; the text says what."""


def open_checkpoint(text, key, witnesses=()):
    """The tree head of a note signed by `key`, and by every witness."""
    result = tlog.verify_checkpoint(tlog.parse_note(text), key, list(witnesses), len(witnesses), expected_origin=key.name)
    if not result.ok:
        raise Refused(f"checkpoint: {result.error}")
    return result


def check_prefix(reader, old, new):
    """Demands that the tree `new` had the head `old` when it was that size."""
    if old.size > new.size:
        raise Refused(f"the older checkpoint has {old.size} entries, the export {new.size}: entries are missing")
    proof = tlog.consistency_proof_from_tiles(reader, old.size, new.size)
    if not tlog.verify_consistency(old.size, new.size, old.root, new.root, proof):
        raise Refused(f"the tree of {new.size} entries does not continue the one of {old.size}: history was rewritten")


def check_proof(path, reader, key, head):
    """Verifies one c2sp.org/tlog-proof@v1 file."""
    proof, _, note = path.read_text("utf-8").partition("\n\n")
    kind, *lines = proof.split("\n")
    if kind != "c2sp.org/tlog-proof@v1":
        raise Refused(f"{path.name}: not a tlog-proof")
    if lines[0].startswith("extra "):
        lines = lines[1:]
    index = int(lines[0].removeprefix("index "))
    if path.name != f"{index}.tlog-proof":
        raise Refused(f"{path.name} proves entry {index}")
    hashes = [base64.b64decode(line, validate=True) for line in lines[1:]]
    then = open_checkpoint(note, key)
    leaf = tlog.leaf_hash(reader.entry(index))
    if not tlog.verify_inclusion(leaf, index, then.size, hashes, then.root):
        raise Refused(f"{path.name}: entry {index} is not in the tree of {then.size} entries")
    check_prefix(reader, then, head)


def run(arguments):
    folder = arguments.directory
    key = tlog.parse_vkey(arguments.vkey or (folder / "vkey").read_text("ascii").strip())
    witnesses = [tlog.parse_vkey(text) for text in arguments.witness]
    head = open_checkpoint((folder / "checkpoint").read_text("utf-8"), key, witnesses)
    standing = "authenticated" if arguments.vkey else "self-consistent, not authenticated (no --vkey given)"
    print(f"checkpoint: {head.origin}, {head.size} entries, {standing}, {head.cosignature_count} cosignatures asked for")

    files = tlog.FileSystemTileReader(folder)
    report = tlog.audit_tiles(files, head.size, head.root)
    print(f"tree: {report.tiles} tiles and {report.bundles} bundles of entries are those of the signed root")

    reader = tlog.VerifiedTileReader(files, head.size, head.root)
    proofs = sorted((folder / "proof").glob("*.tlog-proof"))
    for path in proofs:
        check_proof(path, reader, key, head)
    print(f"proofs: {len(proofs)} verified")

    if arguments.since:
        old = open_checkpoint(arguments.since.read_text("utf-8"), key)
        check_prefix(reader, old, head)
        print(f"since: consistent with the tree of {old.size} entries")


def main():
    parser = argparse.ArgumentParser(description="Checks an export of a garant log with aics-tlog.")
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--vkey", help="verifier key of the log, known from elsewhere")
    parser.add_argument("--witness", action="append", default=[], help="verifier key of a witness that must have cosigned")
    parser.add_argument("--since", type=pathlib.Path, help="an older checkpoint of this log")
    try:
        run(parser.parse_args())
    except (Refused, OSError, ValueError) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    print("OK: every check passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
