"""Findings and rulings as JSON: the store's document is exact, the record is what RFC 8785 can say."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.auditing.custody import canonical, plain
from evalkit.auditing.documents import document, finding_of, record_of, restored
from evalkit.errors import BadRecord
from evalkit.types import STATES, Evidence, Finding, Opened, Opinion, Ruling
from tests.audits import CLEAR, FLAGGED, UNREADABLE, finding

# Anything a hostile file can put into a text: lone surrogates, NUL, marks of direction, halves of a pair.
texts = st.text(st.characters(), max_size=12) | st.sampled_from(["\udce9", "\ud83d\ude00", "\x00", "\u202e", "$", "é"])
numbers = st.floats() | st.integers() | st.booleans() | st.none()
facts = st.dictionaries(
    texts,
    st.recursive(
        numbers | texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
    ),
    max_size=3,
)
evidence = st.builds(
    Evidence,
    kind=st.sampled_from(["c2pa", "metadata", "inconsistency"]),
    says=st.sampled_from(["synthetic", "unknown"]),
    strength=st.sampled_from(["strong", "hint"]),
    source=texts,
    detail=texts,
    facts=facts,
    p_value=st.none() | st.floats(),
)
opened = st.builds(
    Opened,
    state=st.sampled_from(STATES),
    stage=texts,
    reason=st.none() | texts,
    decoder=texts,
    format=texts,
    modality=st.sampled_from(["image", "text", None]),
    width=st.none() | st.integers(),
    facts=facts,
    hashes=facts,
    evidence=st.tuples(evidence),
    warnings=st.tuples(texts),
    seconds=st.floats(),
    peak_bytes=st.integers(),
)
opinion = st.builds(
    Opinion, name=texts, digest=texts, trained_on=texts, p_fake=st.floats(), score=st.floats(), low=st.floats(),
    high=st.floats(), p_calibrated=st.none() | st.floats(), p_value=st.none() | st.floats(),
    reasons=st.dictionaries(texts, texts, max_size=2),
)  # fmt: skip
findings = st.builds(
    Finding, position=st.integers(0, 10**7), id=texts, name=st.binary(max_size=12), sha256=st.just("ab" * 32),
    bytes=st.integers(0), opened=opened, opinions=st.tuples(opinion),
    evidence=st.lists(evidence, max_size=2).map(tuple),
)  # fmt: skip
rulings = st.builds(
    Ruling, verdict=st.sampled_from(["synthetic", "authentic", "uncertain", "unreadable"]), rule=texts,
    p_fake=st.none() | st.floats(), p_value=st.none() | st.floats(), q_value=st.none() | st.floats(),
    flagged=st.booleans(), reasons=st.dictionaries(texts, texts, max_size=2), conflicts=st.tuples(texts),
)  # fmt: skip


def told(value: Any) -> str:
    """A value with its types, in which NaN equals itself and True is not 1."""
    return repr(value)


def strict(text: str) -> Any:
    def refuse(constant: str) -> Any:
        raise AssertionError(f"not strict JSON: {constant}")

    return json.loads(text, parse_constant=refuse)


@given(findings)
@settings(max_examples=60, deadline=None)
def test_a_finding_comes_back_from_the_store_exactly(one: Finding) -> None:
    kept = json.dumps(document(one), allow_nan=False)
    assert kept.encode("ascii")
    assert told(finding_of(strict(kept))) == told(one)


@given(findings, rulings)
@settings(max_examples=60, deadline=None)
def test_every_finding_has_a_canonical_record_that_reads_back_as_itself(one: Finding, ruling: Ruling) -> None:
    record = record_of(one, ruling)
    line = canonical(record)
    back = strict(line.decode("utf-8"))
    assert canonical(record_of(*restored(back))) == line
    name = bytes.fromhex(back["name_hex"]) if "name_hex" in back else back["id"].encode()
    assert name == one.name
    if record["verdict"] == "unreadable" or not one.opened.readable:
        assert isinstance(record["reason"], str) and (record["reason"] or one.opened.reason == "")


def test_evidence_shared_with_the_opening_is_kept_once_and_other_evidence_whole() -> None:
    shared = finding()
    assert "evidence" not in document(shared) and len(document(shared)["more"]) == 1
    alone = dataclasses.replace(shared, evidence=shared.evidence[1:])
    assert len(document(alone)["evidence"]) == 1
    assert finding_of(document(alone)) == alone and finding_of(document(shared)) == shared


def test_a_record_says_all_that_the_contract_asks_for() -> None:
    record = record_of(finding(3), FLAGGED)
    assert {"id": record["id"], "verdict": record["verdict"], "p_fake": record["p_fake"]} == {
        "id": "upload/3.jpg", "verdict": "synthetic", "p_fake": 0.97,
    }  # fmt: skip
    assert (record["schema"], record["position"], record["bytes"]) == ("evalkit.audit/1", 3, 1234)
    assert record["threshold"] == [0.2, 0.8] and record["spans"] == [] and record["reason"] is None
    assert record["flagged"] is True and record["q_value"] == 0.002 and record["hashes"]["pdq_quality"] == 100
    [detector] = record["detectors"]
    assert detector["trained_on"] == "embedded digits" and detector["digest"] == "sha256:dd"
    # What the file said when it was opened is told once, before what was found besides.
    assert [(e["kind"], e.get("of")) for e in record["evidence"]] == [("metadata", None), ("fingerprint", "list")]
    assert record["evidence"][1]["p_value"] == 0.25 and record["evidence"][0]["facts"] == {"steps": 20}
    assert "name_hex" not in record and "seconds" not in str(record)


def test_findings_that_differ_only_in_the_workers_cost_have_equal_records() -> None:
    assert record_of(finding(seconds=1.5, peak_bytes=10), CLEAR) == record_of(finding(seconds=9.0), CLEAR)


def test_an_unreadable_file_has_a_reason_even_where_none_was_given() -> None:
    record = record_of(finding(state="timeout", reason=None), UNREADABLE)
    assert record["reason"] == "timeout: no reason was given"
    assert record_of(finding(state="corrupt", reason="bad marker"), UNREADABLE)["reason"] == "bad marker"


def test_a_score_that_is_no_number_is_left_out_with_a_warning_and_names_survive() -> None:
    one = dataclasses.replace(finding(0, b"\xff\n.jpg"), opinions=(dataclasses.replace(_opinion(), score=math.inf),))
    record = record_of(one, CLEAR)
    assert record["detectors"][0]["score"] is None
    assert record["warnings"] == ["score of cnn is not a finite number of reasonable size: left out"]
    assert record["id"] == "\\xff\n.jpg" and bytes.fromhex(record["name_hex"]) == b"\xff\n.jpg"
    assert finding_of(document(one)).opinions[0].score == math.inf


def _opinion() -> Opinion:
    return finding().opinions[0]


def test_detectors_of_different_thresholds_have_each_its_own() -> None:
    two = dataclasses.replace(finding(), opinions=(_opinion(), dataclasses.replace(_opinion(), name="b", high=0.9)))
    record = record_of(two, CLEAR)
    assert record["threshold"] is None
    assert [d["threshold"] for d in record["detectors"]] == [[0.2, 0.8], [0.2, 0.9]]


def test_numbers_beyond_a_double_are_kept_as_text() -> None:
    assert plain({"a": 2**53, "b": 2**53 - 1, "c": -(2**53), "d": math.nan, "e": -math.inf}) == {
        "a": "9007199254740992", "b": 2**53 - 1, "c": "-9007199254740992", "d": "nan", "e": "-inf",
    }  # fmt: skip
    assert plain(10**5000).startswith("0x") and plain("a\udce9") == "a\\udce9"
    # Two keys that become one text both stay.
    assert plain({"\udce9": 1, "\\udce9": 2}) == {"\\udce9": 1, "\\udce9'": 2}


def test_facts_nested_without_end_are_cut_and_what_is_no_json_is_refused() -> None:
    deep: Any = "bottom"
    for _ in range(5000):
        deep = [deep]
    one = finding(facts={"deep": deep})
    assert "nested too deeply" in json.dumps(document(one)) and b"nested too deeply" in canonical(record_of(one, CLEAR))
    with pytest.raises(BadRecord, match="cannot hold bytes"):
        document(finding(facts={"raw": b"\x00"}))
    with pytest.raises(BadRecord, match="cannot hold object"):
        record_of(finding(facts={"raw": object()}), CLEAR)


@pytest.mark.parametrize("broken", [{}, {"opened": 1}, {"position": 0, "opened": {"evidence": []}, "name": "zz"}])
def test_a_damaged_document_or_record_is_one_sentence(broken: dict[str, Any]) -> None:
    with pytest.raises(BadRecord, match="damaged finding"):
        finding_of(broken)
    with pytest.raises(BadRecord, match=r"damaged evalkit\.audit/1"):
        restored(broken)
