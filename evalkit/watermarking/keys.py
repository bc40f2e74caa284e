"""A key file: everything a watermark test needs beside the text, `evalkit.watermark/1`, one JSON object.

    {"schema": "evalkit.watermark/1", "scheme": "kgw", "vocabulary": 50272, "key": 15485863, "gamma": 0.25,
     "device": "cpu", "tokenizer": {"kind": "byte_pairs", "vocab": "vocab.json", "merges": "merges.txt"}}

Paths are relative to the file. The `watermark` member of another JSON object (a drawn set's set.json) is read too, and
so is the card.json of a model folder that was trained with a watermark. Every member is checked, none is guessed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadSetting, BadSource, UnknownName
from .evidence import Evidence, Outcome, Scheme
from .exponential import SALT, Exponential
from .kgw import HASH_KEY, Kgw
from .randomness import DEVICES
from .synthid import FORMS, PUBLIC_KEYS, WEIGHTINGS, SynthId
from .tokenizers import BytePairs, CharacterPairs, HuggingFace, ScoredPieces, Tokenizer, read_merges

SCHEMA, CARD_SCHEMA = "evalkit.watermark/1", "evalkit.generator/1"
NAMES = ("kgw", "kgw_selfhash", "synthid", "exp")
FPR, LEAST_TOKENS = 0.001, 16
LARGEST_VOCABULARY = 10_000_000
# A model's head is padded to a multiple of a few hundred; a larger gap is another model's vocabulary.
PADDED = 0.05

COMMON = frozenset({"schema", "scheme", "vocabulary", "tokenizer", "device", "fpr", "least_tokens"})
OWN = {
    "kgw": frozenset({"key", "gamma", "delta", "seeding"}),
    "kgw_selfhash": frozenset({"key", "gamma", "delta"}),
    "synthid": frozenset({"key", "keys", "ngram", "form", "score"}),
    "exp": frozenset({"key", "salt", "ngram"}),
}
TOKENIZERS = {
    "byte_pairs": ("vocab", "merges"),
    "character_pairs": ("alphabet", "merges"),
    "model_folder": ("folder",),
    "scored_pieces": ("file",),
    "transformers": ("folder",),
}


@dataclass(frozen=True)
class WatermarkKey:
    """A scheme with its tokenizer: tests texts. `digest` is of all that decides a p-value, tokenizer included."""

    name: str
    scheme: Scheme
    tokenizer: Tokenizer
    fpr: float
    least_tokens: int
    digest: str
    warnings: tuple[str, ...] = ()

    def examine(self, text: str) -> Evidence:
        """The evidence in one text: score, z, exact p-value, scored tokens."""
        return self.scheme.test(self.tokenizer.encode(text))


def watermark_test(text: str, key: WatermarkKey) -> Outcome:
    """z-score, exact p-value in [1e-300, 1] and number of scored tokens of one text; p = 1 where none can be scored."""
    found = key.examine(text)
    return Outcome(found.z, found.p, found.n)


def spread_keys(key: int, depth: int) -> tuple[int, ...]:
    """SynthID's keys from one number: the first `depth` distinct 16-bit numbers of a sha256 stream."""
    found: dict[int, None] = {}
    step = 0
    while len(found) < depth:
        found[int.from_bytes(hashlib.sha256(f"{key}:{step}".encode()).digest()[:2], "big")] = None
        step += 1
    return tuple(found)


def scheme_of(name: str, vocabulary: int, key: int, gamma: float, delta: float) -> Scheme:
    """The scheme that the `lm` generator's controls name, all else at its default; UnknownName for another name."""
    if name in ("kgw", "kgw_selfhash"):
        seeding = "selfhash" if name == "kgw_selfhash" else "simple_1"
        return Kgw(vocabulary, gamma=gamma, delta=delta, key=key, seeding=seeding)
    if name == "synthid":
        return SynthId(vocabulary, keys=spread_keys(key, len(PUBLIC_KEYS)))
    if name == "exp":
        return Exponential(vocabulary, key=key)
    raise UnknownName("watermark", name, NAMES)


def described(
    name: str, vocabulary: int, key: int, gamma: float, delta: float, tokenizer: Mapping[str, Any]
) -> dict[str, Any]:
    """The key file of what `scheme_of` makes."""
    own = {"gamma": gamma, "delta": delta} if name in ("kgw", "kgw_selfhash") else {}
    facts = {"schema": SCHEMA, "scheme": name, "vocabulary": vocabulary, "key": key, **own, "device": "cpu"}
    return {**facts, "tokenizer": dict(tokenizer)}


# ---------------------------------------------------------------------------------------------- reading


def read_key(path: Path | str) -> WatermarkKey:
    """The key in a file; BadSource when it cannot be read, BadSetting, one line, for what is wrong in it."""
    file = Path(path)
    try:
        document = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not JSON"
        raise BadSource(f"watermark key {file} cannot be read ({why}); expected a JSON file, {SCHEMA}") from error
    if isinstance(document, dict) and isinstance(document.get("watermark"), dict):
        document = document["watermark"]
    elif isinstance(document, dict) and document.get("schema") == CARD_SCHEMA:
        document = _of_card(document, file)
    return key_of(document, file.parent, str(file))


def key_of(document: Any, home: Path, where: str) -> WatermarkKey:
    """The key that a JSON object describes, its paths relative to `home`; raises as `read_key` does."""
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise BadSetting(f"{where} is no watermark key; expected an object with schema {SCHEMA!r}")
    name = document.get("scheme")
    if name not in NAMES:
        raise UnknownName("watermark scheme", str(name), NAMES)
    for member in document:
        if member not in COMMON | OWN[name]:
            raise UnknownName(f"member of a {name} key", str(member), COMMON | OWN[name])
    read = _Reader(document, where)
    vocabulary = read.whole("vocabulary", None, 2, LARGEST_VOCABULARY)
    scheme = _scheme(name, vocabulary, read)
    tokenizer, terms = _tokenizer(document.get("tokenizer"), home, where)
    if tokenizer.size > vocabulary:
        raise BadSetting(
            f"{where}: the tokenizer has {tokenizer.size} tokens and the vocabulary {vocabulary}; give the vocabulary"
            " of the model's output layer"
        )
    said: tuple[str, ...] = ()
    if tokenizer.size < (1 - PADDED) * vocabulary:
        said = (
            f"{where}: the tokenizer has {tokenizer.size} tokens and the model {vocabulary}; with another model's"
            " tokenizer every text scores as if it had no watermark",
        )
    plain = {k: v for k, v in document.items() if k not in ("tokenizer", "fpr", "least_tokens")}
    digest = hashlib.sha256(json.dumps([plain, terms], sort_keys=True).encode()).hexdigest()
    fpr = read.number("fpr", FPR, 1e-12, 0.5)
    return WatermarkKey(name, scheme, tokenizer, fpr, read.whole("least_tokens", LEAST_TOKENS, 1, 10**6), digest, said)


def _scheme(name: str, vocabulary: int, read: _Reader) -> Scheme:
    device = read.word("device", "", DEVICES)
    if name in ("kgw", "kgw_selfhash"):
        own = (
            "selfhash"
            if name == "kgw_selfhash"
            else read.word("seeding", "simple_1", ("simple_1", "minhash", "skipgram"))
        )
        gamma, delta = read.number("gamma", 0.25, 0, 1), read.number("delta", 2.0, 0, 100)
        key = read.whole("key", HASH_KEY, 1, 2**63 - 1)
        return Kgw(vocabulary, gamma=gamma, delta=delta, key=key, seeding=own, device=device)  # type: ignore[arg-type]
    if name == "exp":
        key, salt = read.whole("key", 0, 0, 2**63 - 1), read.whole("salt", SALT, 1, 2**63 - 1)
        return Exponential(vocabulary, key=key, salt=salt, ngram=read.whole("ngram", 2, 1, 32), device=device)  # type: ignore[arg-type]
    return SynthId(
        vocabulary,
        keys=read.keys(),
        ngram=read.whole("ngram", 5, 2, 32),
        form=read.word("form", "table", FORMS),  # type: ignore[arg-type]
        device=device,  # type: ignore[arg-type]
        weighting=read.word("score", "weighted", WEIGHTINGS),  # type: ignore[arg-type]
    )


class _Reader:
    """Members of a key file, each checked: what was given, what was expected."""

    def __init__(self, document: Mapping[str, Any], where: str) -> None:
        self._document, self._where = document, where

    def whole(self, name: str, default: int | None, low: int, high: int) -> int:
        value = self._document.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise BadSetting(f"{self._where}: {name} = {value!r}; expected a whole number from {low} to {high}")
        return value

    def number(self, name: str, default: float, low: float, high: float) -> float:
        value = self._document.get(name, default)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or not low <= value <= high:
            raise BadSetting(f"{self._where}: {name} = {value!r}; expected a number from {low:g} to {high:g}")
        return float(value)

    def word(self, name: str, default: str, known: tuple[str, ...]) -> str:
        value = self._document.get(name, default)
        if value not in known:
            raise BadSetting(f"{self._where}: {name} = {value!r}; expected one of {', '.join(known)}")
        return str(value)

    def keys(self) -> tuple[int, ...]:
        """`keys`, a list, or those spread from one number `key`."""
        if ("keys" in self._document) == ("key" in self._document):
            raise BadSetting(f"{self._where}: a synthid key has either `keys`, a list, or `key`, one number")
        if "key" in self._document:
            return spread_keys(self.whole("key", None, 0, 2**63 - 1), len(PUBLIC_KEYS))
        found = self._document["keys"]
        if not isinstance(found, list) or not all(type(k) is int and 0 <= k < 2**63 for k in found):
            raise BadSetting(f"{self._where}: keys = {str(found)[:60]!r}; expected a list of whole numbers from 0")
        return tuple(found)


# ---------------------------------------------------------------------------------------------- tokenizers


def _tokenizer(given: Any, home: Path, where: str) -> tuple[Tokenizer, Any]:
    """The tokenizer and what its digest is of."""
    kind = given.get("kind") if isinstance(given, dict) else None
    if kind not in TOKENIZERS or set(given) != {"kind", *TOKENIZERS[kind]}:
        forms = "; ".join(f"{k}: {', '.join(members)}" for k, members in TOKENIZERS.items())
        raise BadSetting(f"{where}: the tokenizer needs a kind and its members ({forms})")
    read: dict[str, Callable[[], tuple[Tokenizer, Any]]] = {
        "byte_pairs": lambda: _byte_pairs(_content(home, given["vocab"]), _content(home, given["merges"]), where),
        "character_pairs": lambda: (_character_pairs(given["alphabet"], given["merges"], where), given),
        "model_folder": lambda: _model_folder(home / str(given["folder"]), where),
        "scored_pieces": lambda: _scored_pieces(_content(home, given["file"])),
        "transformers": lambda: (HuggingFace(str(home / str(given["folder"]))), str(given["folder"])),
    }
    return read[kind]()


def _content(home: Path, name: Any) -> bytes:
    try:
        return (home / str(name)).read_bytes()
    except OSError as error:
        raise BadSource(f"tokenizer file {home / str(name)} cannot be read ({error.strerror})") from error


def _byte_pairs(vocab: bytes, merges: bytes, where: str) -> tuple[Tokenizer, Any]:
    try:
        numbers, pairs = json.loads(vocab), read_merges(merges.decode("utf-8"))
    except ValueError as error:
        raise BadSource(f"{where}: the vocabulary is not JSON or the merges are not UTF-8") from error
    if not isinstance(numbers, dict) or not all(type(n) is int and n >= 0 for n in numbers.values()):
        raise BadSource(f"{where}: the vocabulary is no object of token and number; expected GPT-2's vocab.json")
    return BytePairs(numbers, pairs), [hashlib.sha256(part).hexdigest() for part in (vocab, merges)]


def _scored_pieces(content: bytes) -> tuple[Tokenizer, Any]:
    return ScoredPieces.read(content), hashlib.sha256(content).hexdigest()


def _character_pairs(alphabet: Any, merges: Any, where: str) -> CharacterPairs:
    letters = isinstance(alphabet, list) and all(isinstance(c, str) and len(c) == 1 for c in alphabet)
    first = len(alphabet) + 1 if letters else 0
    pairs = isinstance(merges, list) and all(
        isinstance(m, list | tuple) and len(m) == 2 and all(type(t) is int and 0 < t < first + i for t in m)
        for i, m in enumerate(merges)
    )
    if not (letters and pairs):
        raise BadSetting(f"{where}: alphabet or merges are damaged; expected single characters and pairs of tokens")
    return CharacterPairs(alphabet, merges)


def _model_folder(folder: Path, where: str) -> tuple[Tokenizer, Any]:
    """The encoding that a language model of ours keeps in its model folder."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / "model.safetensors", "pt") as file:
            alphabet = json.loads(file.get_tensor("alphabet").numpy().tobytes())
            merges = file.get_tensor("merges").tolist()
    except (OSError, SafetensorError, ValueError) as error:
        raise BadSource(f"{folder} holds no language model with an alphabet and merges ({error})") from error
    return _character_pairs(alphabet, merges, where), [alphabet, merges]


def _of_card(card: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The key of a model folder whose controls name a watermark."""
    settings = card.get("settings")
    name = settings.get("watermark", "none") if isinstance(settings, dict) else "none"
    if name == "none" or not isinstance(settings, dict):
        raise BadSetting(f"{file} is the card of a model without a watermark; train it with --set watermark=kgw")
    tokenizer = {"kind": "model_folder", "folder": "."}
    vocabulary = _model_folder(file.parent, str(file))[0].size
    # Checked with the rest of the key, whatever the card says.
    key, gamma, delta = (settings.get(control) for control in ("watermark_key", "gamma", "delta"))
    return described(name, vocabulary, key, gamma, delta, tokenizer)  # type: ignore[arg-type]
