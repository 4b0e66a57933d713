#!/usr/bin/env python3
"""Reads sealed backups by docs/format.md alone: a second implementation that shares no code with garant.

decode.py KEYFILE REPOSITORY list                    what bases and pieces of log there are, as JSON
decode.py KEYFILE REPOSITORY stream BACKUP SET NAME  the bytes of a stream of a base, on standard output
decode.py KEYFILE REPOSITORY log BACKUP LOG FILE     the bytes of one file of a log, from its first piece on, on standard output

REPOSITORY is a directory: a copy, or what was fetched from a bucket. AES-256-GCM is OpenSSL's libcrypto, Zstandard the program zstd.
"""
import ctypes
import ctypes.util
import hashlib
import hmac
import json
import pathlib
import subprocess
import sys

FRAME = 1 << 20
TAG = 16
crypto = ctypes.CDLL(ctypes.util.find_library("crypto"))
for name in ("EVP_CIPHER_CTX_new", "EVP_aes_256_gcm"):
    getattr(crypto, name).restype = ctypes.c_void_p


def fail(why):
    sys.exit(f"decode.py: {why}")


def gcm(key, nonce, sealed, additional=b""):
    """The plaintext of AES-256-GCM; it fails where the tag does not fit."""
    data, tag = sealed[:-TAG], sealed[-TAG:]
    context = ctypes.c_void_p(crypto.EVP_CIPHER_CTX_new())
    clear = ctypes.create_string_buffer(len(data) + 16)
    length = ctypes.c_int()
    try:
        crypto.EVP_DecryptInit_ex(context, ctypes.c_void_p(crypto.EVP_aes_256_gcm()), None, key, nonce)
        if additional:
            crypto.EVP_DecryptUpdate(context, None, ctypes.byref(length), additional, len(additional))
        crypto.EVP_DecryptUpdate(context, clear, ctypes.byref(length), data, len(data))
        written = length.value
        crypto.EVP_CIPHER_CTX_ctrl(context, 0x11, TAG, tag)  # EVP_CTRL_AEAD_SET_TAG
        if crypto.EVP_DecryptFinal_ex(context, None, ctypes.byref(length)) != 1:
            raise ValueError("the tag of AES-256-GCM does not fit")
    finally:
        crypto.EVP_CIPHER_CTX_free(context)
    return clear.raw[:written]


class Repository:
    def __init__(self, key_file, root):
        text = pathlib.Path(key_file).read_text().strip()
        if not text.startswith("garant-backup-key-1-"):
            fail("that is no repository key")
        key = bytes.fromhex(text.removeprefix("garant-backup-key-1-"))
        self.key = key[:32]
        if len(key) != 36 or hashlib.sha256(self.key).digest()[:4] != key[32:]:
            fail("a digit of the repository key is wrong")
        self.identity = hashlib.sha256(b"garant backup key identity 1\n" + self.key).hexdigest()[:16]
        self.root = pathlib.Path(root)
        self.keys = {}

    def names(self, folder):
        """All names below a folder, in the order of their bytes."""
        top = self.root / folder
        files = (path for path in top.rglob("*") if path.is_file()) if top.is_dir() else ()
        return sorted(str(path.relative_to(self.root)) for path in files)

    def data_key(self, folder):
        if folder not in self.keys:
            wrapped = json.loads((self.root / "keys" / folder).read_bytes())
            if wrapped["format"] != 1 or wrapped["by"] != self.identity:
                fail(f"the key of {folder} is of another format, or was wrapped by another repository key")
            bound = b"garant backup data key 1\n" + folder.encode()
            nonce, sealed = bytes.fromhex(wrapped["nonce"]), bytes.fromhex(wrapped["sealed"])
            self.keys[folder] = gcm(self.key, nonce, sealed, bound)
        return self.keys[folder]

    def open(self, name):
        """The head and the payload of a sealed object."""
        sealed = (self.root / name).read_bytes()
        if sealed[:8] != b"garant\x00\x01" or len(sealed) <= 24:
            fail(f"{name} is no sealed object of format 1")
        salt, frames = sealed[8:24], sealed[24:]
        words = b"garant backup object 1\n" + salt + name.encode()
        key = hmac.new(self.data_key(name.rpartition("/")[0]), words, hashlib.sha256).digest()
        count = -(-len(frames) // (FRAME + TAG))
        clear = bytearray()
        for number in range(count):
            frame = frames[number * (FRAME + TAG) : (number + 1) * (FRAME + TAG)]
            last = bytes([number + 1 == count])
            clear += gcm(key, bytes(7) + number.to_bytes(4, "big") + last, frame)
        length = int.from_bytes(clear[1:5], "big")
        head, payload = bytes(clear[5 : 5 + length]), bytes(clear[5 + length :])
        if clear[0] == 1:
            payload = subprocess.run(["zstd", "-dcq"], input=payload, capture_output=True, check=True).stdout
        elif clear[0] != 0:
            fail(f"{name} is compressed in an unknown way")
        return json.loads(head) if head else None, payload

    def bases(self):
        for name in self.names("sets"):
            if name.endswith("/manifest"):
                yield self.open(name)[0]

    def pieces(self, backup=None):
        """Each piece of log: backup, log, file, start, end, name."""
        for name in self.names("logs"):
            _, of, log, _, piece = name.split("/")
            if backup in (None, of):
                file, _, places = piece.split("-", 1)[1].partition(".")
                start, _, end = places.partition("-")
                yield of, log, int(file, 16), int(start, 16), int(end, 16), name

    def stream(self, backup, wanted, stream, out):
        folder = f"sets/{backup}/{wanted}"
        manifest = self.open(f"{folder}/manifest")[0]
        found = [it for it in manifest["streams"] if it["name"] == stream]
        if not found:
            fail(f"the base has no stream {stream}")
        digest, size = hashlib.sha256(), 0
        for number in range(1, found[0]["parts"] + 1):
            part = self.open(f"{folder}/{stream}.{number:05}")[1]
            digest.update(part)
            size += len(part)
            out.write(part)
        if (size, digest.hexdigest()) != (found[0]["size"], found[0]["sha256"]):
            fail("the stream is not the one that was read")

    def log(self, backup, log, file, out):
        at = None
        for _, of, number, start, end, name in sorted(self.pieces(backup), key=lambda it: it[2:5]):
            if of != log or number != file:
                continue
            at = start if at is None else at
            if start > at:
                fail(f"the log has a gap: nothing holds the byte {at}")
            if end > at:
                out.write(self.open(name)[1][at - start :])
                at = end


def main(arguments):
    if len(arguments) < 3:
        fail(__doc__)
    repository, command, rest = Repository(*arguments[:2]), arguments[2], arguments[3:]
    out = sys.stdout.buffer
    if command == "list" and not rest:
        pieces = [dict(zip(("backup", "log", "file", "start", "end", "name"), it)) for it in repository.pieces()]
        heads = [dict(piece, head=repository.open(piece["name"])[0]) for piece in pieces]
        print(json.dumps({"bases": list(repository.bases()), "pieces": heads}))
    elif command == "stream" and len(rest) == 3:
        repository.stream(*rest, out)
    elif command == "log" and len(rest) == 3:
        repository.log(rest[0], rest[1], int(rest[2]), out)
    else:
        fail(__doc__)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (OSError, ValueError, KeyError) as error:
        fail(error)
