"""Feeds a log of aics-tlog to a witness of garant, with the client of aics-witness: not a line of garant.

    feed.py vkey                        prints the key of the log
    feed.py feed URL WITNESS_KEY        submits checkpoints, and then what a witness must refuse

A checkpoint, a longer one and the same once more must be cosigned, and the cosignatures count for aics-tlog. An older one,
one without a proof, and two forks must not: of the same size, and longer. Exit code 0 when everything is as it should be.
"""

import sys

import aics_tlog as tlog
from aics_witness.feeder import (
    BadWitnessResponse,
    FeederError,
    WitnessAhead,
    WitnessClient,
    WitnessRejected,
    merge_cosignatures,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ORIGIN = "stranger.example/log"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def tree_of(words, size):
    return tlog.MerkleTree(f"{words} {index}".encode() for index in range(size))


def signed(tree, size):
    checkpoint = tlog.Checkpoint(origin=ORIGIN, size=size, root=tree.root(size))
    return tlog.sign_checkpoint(checkpoint, KEY, ORIGIN).to_bytes()


def feed(url, witness_key):
    witness, log = tlog.parse_vkey(witness_key), tlog.vkey_from_ed25519(ORIGIN, KEY.public_key())
    tree, fork = tree_of("entry", 1000), tree_of("forged entry", 1000)

    def client():
        return WitnessClient(url, witness_key, max_attempts=1)

    feeder = client()
    for size in (1, 3, 256, 700, 700):
        note = signed(tree, size)
        both = merge_cosignatures(note, feeder.submit(note, tree.consistency_proof))
        result = tlog.verify_checkpoint(tlog.parse_note(both), log, [witness], 1, expected_origin=ORIGIN)
        if not result.ok:
            raise SystemExit(f"{size} entries: the cosignature does not count: {result.error}")

    def refused(what, expected, submit):
        try:
            submit()
        except expected as refusal:
            print(f"{what}: refused, {refusal}")
        except FeederError as error:
            raise SystemExit(f"{what}: refused as {type(error).__name__} and not as {expected}: {error}") from error
        else:
            raise SystemExit(f"{what}: cosigned")

    refused("an older tree", WitnessAhead, lambda: client().submit(signed(tree, 300), tree.consistency_proof))
    # tlog-witness 1.0 answers 409 without a size, which this client of 1.1 does not expect; 1.1 answers 422.
    final = (WitnessRejected, BadWitnessResponse)
    refused("a fork of the same size", final, lambda: client().submit(signed(fork, 700), (700, [])))
    refused("a longer fork", WitnessRejected, lambda: client().submit(signed(fork, 900), fork.consistency_proof))
    refused("no proof", WitnessRejected, lambda: client().submit(signed(tree, 900), (700, [])))
    # And none of it kept the witness from going on.
    feeder.submit(signed(tree, 900), tree.consistency_proof)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["vkey"]:
            print(tlog.format_vkey(tlog.vkey_from_ed25519(ORIGIN, KEY.public_key())))
        case ["feed", url, witness_key]:
            feed(url, witness_key)
        case _:
            sys.exit(__doc__)
