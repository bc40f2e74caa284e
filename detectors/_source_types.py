"""IPTC's vocabulary of digital source types: which term says that a picture was taken, generated or edited.

NewsCodes "Digital Source Type", https://cv.iptc.org/newscodes/digitalsourcetype/, and the two terms that the C2PA
specification adds. A term counts only where it is the whole value: `compositeWithTrainedAlgorithmicMedia` holds
`TrainedAlgorithmicMedia`, and a search in raw bytes runs on into whatever follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from evalkit.types.audit import Says

SPACES = (
    "http://cv.iptc.org/newscodes/digitalsourcetype/",
    "https://cv.iptc.org/newscodes/digitalsourcetype/",
    "http://c2pa.org/digitalsourcetype/",
    "https://c2pa.org/digitalsourcetype/",
)

TERMS: Mapping[str, Says] = {
    "digitalCapture": "authentic",
    "computationalCapture": "authentic",
    "negativeFilm": "authentic",
    "positiveFilm": "authentic",
    "print": "authentic",
    "trainedAlgorithmicMedia": "synthetic",
    "trainedAlgorithmicData": "synthetic",
    "algorithmicMedia": "synthetic",
    "compositeWithTrainedAlgorithmicMedia": "edited",
    "compositeSynthetic": "edited",
    "compositeCapture": "edited",
    "composite": "edited",
    "algorithmicallyEnhanced": "edited",
    "humanEdits": "edited",
    "minorHumanEdits": "edited",
    "dataDrivenMedia": "unknown",
    "digitalArt": "unknown",
    "digitalCreation": "unknown",
    "screenCapture": "unknown",
    "softwareImage": "unknown",
    "virtualRecording": "unknown",
    "empty": "unknown",
}

# For people: what a term means, where its name does not say it.
MEANING: Mapping[str, str] = {
    "trainedAlgorithmicMedia": "made by a trained model",
    "trainedAlgorithmicData": "data made by a trained model",
    "algorithmicMedia": "made by an algorithm without training data",
    "compositeWithTrainedAlgorithmicMedia": "put together or changed with a trained model",
    "compositeSynthetic": "put together, with synthetic parts",
    "digitalCapture": "taken with a digital camera",
    "computationalCapture": "taken with a camera, several exposures computed into one",
}


def term_of(value: object) -> str | None:
    """The term that a value is, given whole or as an address of the vocabulary; None for any other text."""
    if not isinstance(value, str):
        return None
    text = value.strip()
    for space in SPACES:
        if text.startswith(space):
            text = text[len(space) :]
            break
    return text if text in TERMS else None


def says_of(terms: Iterable[str]) -> Says:
    """What several terms of one file say together: agreement stands, a mixture of kinds is an edit."""
    kinds = {TERMS[term] for term in terms} - {"unknown"}
    if not kinds:
        return "unknown"
    return kinds.pop() if len(kinds) == 1 else "edited"


def in_words(terms: Iterable[str]) -> str:
    return ", ".join(f"{term} ({MEANING[term]})" if term in MEANING else term for term in terms)
