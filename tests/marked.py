"""Files with marks of origin, made by hand: PNG, JPEG, WebP with texts, XMP, EXIF, hidden texts, signed manifests."""

from __future__ import annotations

import datetime
import gzip
import io
import json
import struct
import zlib

import numpy as np
from PIL import Image

from evalkit.types import MediaFile

# The period of our own certificates: wide, because c2pa-python signs with today's clock.
BEGINS, ENDS = (datetime.datetime(year, 1, 1, tzinfo=datetime.UTC) for year in (2020, 2090))
TERM = "http://cv.iptc.org/newscodes/digitalsourcetype/"
PACKET = (
    '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF'
    ' xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
    ' xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:dcterms="http://purl.org/dc/terms/"'
    ' xmlns:TC260="http://www.tc260.org.cn/ns/AIGC/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
    ' xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:xmpNote="http://ns.adobe.com/xmp/note/"'
    ' xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"'
    ' {attributes}>{elements}</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


def pixels(seed: int = 0, size: tuple[int, int] = (48, 40), channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, channels), dtype=np.uint8)


def xmp(attributes: str = "", elements: str = "") -> bytes:
    return PACKET.format(attributes=attributes, elements=elements).encode()


def encoded(array: np.ndarray, format: str = "PNG", **settings: object) -> bytes:
    held = io.BytesIO()
    Image.fromarray(array).save(held, format, **settings)
    return held.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*chunks: bytes, array: np.ndarray | None = None, behind: bool = False) -> bytes:
    """A PNG with these chunks before its pixels, or behind them."""
    data = encoded(pixels() if array is None else array)
    cut = data.rindex(b"IEND") - 4 if behind else 33
    return data[:cut] + b"".join(chunks) + data[cut:]


def text(keyword: str, body: str | bytes, kind: bytes = b"tEXt") -> bytes:
    raw = body if isinstance(body, bytes) else body.encode()
    if kind == b"zTXt":
        raw = b"\0" + zlib.compress(raw)
    if kind == b"iTXt":
        raw = b"\0\0\0\0" + raw
    return chunk(kind, keyword.encode() + b"\0" + raw)


def jpeg(*segments: bytes) -> bytes:
    """A JPEG with these APP1 bodies in front."""
    data = encoded(pixels(), "JPEG")
    return data[:2] + b"".join(b"\xff\xe1" + struct.pack(">H", len(s) + 2) + s for s in segments) + data[2:]


def jpeg_xmp(packet: bytes) -> bytes:
    return jpeg(b"http://ns.adobe.com/xap/1.0/\0" + packet)


def webp(kind: bytes, body: bytes) -> bytes:
    data = encoded(pixels(), "WEBP")
    whole = data[8:] + kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    return b"RIFF" + struct.pack("<I", len(whole)) + whole


def exif(tags: dict[int, object], comment: bytes | None = None) -> bytes:
    block = Image.Exif()
    for tag, value in tags.items():
        block[tag] = value
    if comment is not None:
        block.get_ifd(0x8769)[0x9286] = comment
    return block.tobytes()


def hidden(body: bytes, mark: bytes, channels: int) -> np.ndarray:
    """Pixels that carry a text in their lowest bits, down the columns: alpha, or red, green and blue."""
    bits = np.unpackbits(np.frombuffer(mark + struct.pack(">I", 8 * len(body)) + body, np.uint8))
    array = pixels(1, (64, 64), channels)
    plane = array[:, :, 3:] if channels == 4 else array
    flat = plane.transpose(1, 0, 2).reshape(-1).copy()
    flat[: len(bits)] = flat[: len(bits)] & 0xFE | bits
    plane[:] = flat.reshape(64, 64, -1).transpose(1, 0, 2)
    return array


def packed(body: str) -> bytes:
    return gzip.compress(body.encode(), mtime=0)


def opened(data: bytes) -> MediaFile:
    """As the isolated reader hands it over: decoded where it decodes."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return MediaFile(data, str(image.format), "image", pixels=np.asarray(image.convert("RGB")))
    except Exception:
        return MediaFile(data, "", "image")


class Signer:
    """A certificate authority of our own and a leaf that signs with c2pa-python; `anchors` is its trust list."""

    def __init__(self) -> None:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
        root, leaf = self._certificate("Root", keys[0], None, keys[0]), None
        leaf = self._certificate("Leaf", keys[1], root, keys[0])
        pem = serialization.Encoding.PEM
        self.anchors = root.public_bytes(pem).decode()
        self.chain = leaf.public_bytes(pem).decode() + self.anchors
        self.key = keys[1].private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()

    def _certificate(self, name, key, issuer, by):
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

        oids = [(NameOID.ORGANIZATION_NAME, "Own Test"), (NameOID.COMMON_NAME, name)]
        subject = x509.Name([x509.NameAttribute(oid, value) for oid, value in oids])
        authority = issuer is None
        usage = {"digital_signature": not authority, "key_cert_sign": authority, "crl_sign": authority}
        others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
        usage |= dict.fromkeys((*others, "encipher_only", "decipher_only"), False)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if authority else issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(BEGINS)
            .not_valid_after(ENDS)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
        )
        if not authority:
            made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        return made.sign(by, hashes.SHA256())

    def sign(self, *types: str, array: np.ndarray | None = None, soft: str = "", parent: bytes = b"") -> bytes:
        """A signed PNG whose actions carry these digital source types; parent: a file it was opened from."""
        import c2pa

        actions = [{"action": "c2pa.opened" if parent else "c2pa.created"}]
        for i, term in enumerate(types):
            entry = actions[0] if i == 0 else {"action": "c2pa.edited"}
            entry["digitalSourceType"] = TERM + term
            actions += [entry] if i else []
        if parent:
            actions[0]["parameters"] = {"ingredientIds": ["parent"]}
        assertions = [{"label": "c2pa.actions.v2", "data": {"actions": actions}}]
        if soft:
            body = {"alg": soft, "blocks": [{"scope": {}, "value": "2*abc"}]}
            assertions.append({"label": "c2pa.soft-binding", "data": body})
        manifest = {
            "claim_generator_info": [{"name": "own test", "version": "1"}],
            "format": "image/png",
            "assertions": assertions,
        }
        settings = {"verify": {"verify_after_sign": False}, "builder": {"thumbnail": {"enabled": False}}}
        context = c2pa.Context(c2pa.Settings.from_dict(settings))
        given = c2pa.C2paSignerInfo(b"es256", self.chain.encode(), self.key.encode(), None)
        held = io.BytesIO()
        with c2pa.Builder(json.dumps(manifest), context=context) as builder:
            if parent:
                about = json.dumps({"title": "parent", "relationship": "parentOf", "label": "parent"})
                builder.add_ingredient(about, "image/png", io.BytesIO(parent))
            source = io.BytesIO(encoded(pixels() if array is None else array))
            builder.sign(c2pa.Signer.from_info(given), "image/png", source, held)
        return held.getvalue()
