"""Counts who approved an agreement, with PyPI's securesystemslib and no code of ours.

    securesystemslib_threshold.py AGREEMENT THRESHOLD KEY.pem=ENVELOPE.json...

Each envelope must verify with its key and name the agreement's SHA-256 as its only subject. Keys are counted as keys,
not as names, so nobody counts twice. Ends with 1 where fewer than THRESHOLD are left.
"""

import hashlib
import json
import sys
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey


def approves(agreement: bytes, key_file: str, envelope_file: str) -> bytes | None:
    """The key that approved, or None with the reason on stdout."""
    public = load_pem_public_key(Path(key_file).read_bytes())
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    # The default would be securesystemslib's own key id; an approval carries the hash of the public key.
    key = SSlibKey.from_crypto(public, keyid=hashlib.sha256(der).hexdigest())
    try:
        envelope = Envelope.from_dict(json.loads(Path(envelope_file).read_text()))
        envelope.verify([key], threshold=1)
    except (OSError, VerificationError) as error:
        print(f"{envelope_file}: {error}")
        return None
    statement = json.loads(envelope.payload)
    digests = [subject["digest"] for subject in statement["subject"]]
    if digests != [{"sha256": hashlib.sha256(agreement).hexdigest()}]:
        print(f"{envelope_file}: approves another agreement")
        return None
    return der


def main() -> int:
    agreement = Path(sys.argv[1]).read_bytes()
    threshold = int(sys.argv[2])
    keys = {approves(agreement, *pair.split("=", 1)) for pair in sys.argv[3:]} - {None}
    print(f"{len(keys)} of {threshold} approvals hold")
    return 0 if len(keys) >= threshold > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
