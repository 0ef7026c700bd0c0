"""Passwords as scrypt records; pure, the salt is an argument.

Parameters are those of OWASP's Password Storage Cheat Sheet for 32 MiB: N = 2^15, r = 8, p = 3 (about 0.25 s on a
2-core machine). A record carries its own, so they can be raised without locking anybody out.
"""

import base64
import hashlib
import hmac
from typing import Final

LOG2_N, R, P = 15, 8, 3
SHORTEST: Final = 12  # characters (ANSSI, recommendations on passwords, R24: with a limit on tries)
LONGEST: Final = 128  # characters; NIST SP 800-63B wants 64 at the least to be taken, more only costs time to hash
SALT_BYTES: Final = 16  # 128 bits (NIST SP 800-132)
_KEY_BYTES: Final = 32  # 256 bits, as the hash under scrypt has


def _derive(password: str, salt: bytes, log2_n: int, r: int, p: int) -> bytes:
    # scrypt needs 128 * N * r bytes, and a little more
    memory = 128 * (1 << log2_n) * r + (1 << 20)
    return hashlib.scrypt(password.encode(), salt=salt, n=1 << log2_n, r=r, p=p, maxmem=memory, dklen=_KEY_BYTES)


def hash_password(password: str, salt: bytes) -> str:
    """Return the record to keep: ``scrypt$log2_n$r$p$salt$key``, the last two in base64."""
    key = _derive(password, salt, LOG2_N, R, P)
    return "$".join(
        ("scrypt", str(LOG2_N), str(R), str(P), base64.b64encode(salt).decode(), base64.b64encode(key).decode())
    )


def is_password(password: str, record: str) -> bool:
    """Tell whether a password is that of a record, in a time that does not tell how wrong it is."""
    _, log2_n, r, p, salt, key = record.split("$")
    found = _derive(password, base64.b64decode(salt), int(log2_n), int(r), int(p))
    return hmac.compare_digest(found, base64.b64decode(key))
