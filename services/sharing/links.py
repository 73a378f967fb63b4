"""The links of mails, by which recipients find what was shared with them (SEC-11)."""

import base64
import hashlib
import hmac

from kernel.ids import BucketId


class Links:
    """The links of mails: 256 bits each, made from a secret, so that none needs to be stored (SEC-11)."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def text(self, bucket_id: BucketId) -> str:
        """The 43 characters that name a bucket."""
        digest = hmac.digest(self._secret, bucket_id.bytes, hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def stored(self, bucket_id: BucketId) -> bytes:
        """What is stored of the link."""
        return link_digest(self.text(bucket_id))


def link_digest(text: str) -> bytes:
    """What a link is looked up by."""
    return hashlib.sha256(text.encode()).digest()
