"""The hospital's own codes: added, never redefined."""

from __future__ import annotations

from pathlib import Path

import pytest

from fhir_mapping.terminology import Code, SiteMapError, Terminology, load

LAB = "https://hospital.example/lab"
HEAD = "concept_id,system,code,display\n"


def written(folder: Path, text: str, name: str = "site.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_adds_codes_names_and_system_spellings(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        HEAD
        + f"ferritin,{LAB},FER01,Ferritin by our assay\n"
        + "\n# a remark,,,\n"
        + f"ice-score,{LAB},ICE9,\n"
        + "system-alias,https://hospital.example/loinc,http://loinc.org,\n"
        + "mdr_colonization,http://hl7.org/fhir/sid/icd-10-cm,Z22.322,\n",
    )
    terminology = Terminology(path)
    assert terminology.concepts_for(LAB, "FER01") == ("ferritin",)
    assert terminology.concepts_for(LAB, "ICE9") == ("ice_score",)
    assert terminology.by_name("ferritin by our assay") == ("ferritin",)
    assert terminology.concepts_for("https://hospital.example/loinc", "6690-2") == ("wbc",)
    assert terminology.concepts_for("http://hl7.org/fhir/sid/icd-10-cm", "Z22.322") == ("mdr_colonization",)
    assert terminology.codes("ferritin")[0].system == "http://loinc.org"
    assert terminology.codes("ferritin")[-1] == Code(LAB.replace("https://", "http://"), "FER01") or (
        terminology.codes("ferritin")[-1].code == "FER01"
    )
    assert terminology.version != load().version


def test_toml_says_the_same(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        f"""
[systems]
"https://hospital.example/atc" = "http://www.whocc.no/atc"

[[codes]]
concept = "ferritin"
system = "{LAB}"
code = "FER01"

[[codes]]
concept = "tarlatamab"
system = "https://hospital.example/drugs"
code = "TAR1"
display = "IMD 1"
""",
        "site.toml",
    )
    terminology = Terminology(path)
    assert terminology.concepts_for(LAB, "FER01") == ("ferritin",)
    assert terminology.concepts_for("https://hospital.example/drugs", "TAR1")[0] == "tarlatamab"
    assert terminology.by_name("IMD 1")[0] == "tarlatamab"
    assert terminology.concepts_for("https://hospital.example/atc", "L01FX33")[0] == "tarlatamab"


def test_three_columns_and_a_byte_order_mark_are_enough(tmp_path: Path) -> None:
    path = tmp_path / "site.csv"
    path.write_bytes(b"\xef\xbb\xbfconcept_id,system,code\r\nferritin," + LAB.encode() + b",F\r\n")
    assert Terminology(path).concepts_for(LAB, "F") == ("ferritin",)


def test_unverified_code_may_be_confirmed_by_the_site(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD + "lansky,http://loinc.org,89245-5,\n")
    assert load().concepts_for("http://loinc.org", "89245-5") == ()
    assert Terminology(path).concepts_for("http://loinc.org", "89245-5") == ("lansky",)


def test_row_that_says_what_the_table_says_is_harmless(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD + "wbc,http://loinc.org,6690-2,\nwbc,http://loinc.org,6690-2,\n")
    assert Terminology(path).codes("wbc") == load().codes("wbc")


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        (HEAD + "no_such,x,1,\n", 2, "unknown concept no_such"),
        (HEAD + f"wbc,{LAB},,\n", 2, "code is empty"),
        (HEAD + "wbc,,W,\n", 2, "system is empty"),
        (HEAD + f",{LAB},W,\n", 2, "concept is empty"),
        (HEAD + "anc,http://loinc.org,6690-2,\n", 2, "already means wbc"),
        (HEAD + "anc,urn:oid:2.16.840.1.113883.6.1,6690-2,\n", 2, "already means wbc"),
        (HEAD + f"wbc,{LAB},W,\nanc,{LAB},W,\n", 3, "already means wbc"),
        (HEAD + "anc,urn:tcell-cds:concept,wbc,\n", 2, "already means wbc"),
        (HEAD + "wbc,http://www.whocc.no/atc,H02AB,\n", 2, "already means class_glucocorticoids"),
        (HEAD + "vac_hepb,http://hl7.org/fhir/sid/cvx,3,\n", 2, "already means vac_mmr"),
        (
            HEAD + "dlbcl,http://hl7.org/fhir/sid/icd-10-cm,C9100,\n",
            2,
            "already means all_lineage_unspecified",
        ),
        (
            HEAD + "system-alias,http://loinc.org,http://snomed.info/sct,\n",
            2,
            "already means http://loinc.org",
        ),
        (HEAD + f"wbc,{LAB}\n", 2, "2 cells"),
        (HEAD + f"wbc,{LAB},W,x,y\n", 2, "5 cells"),
        ("concept,system,code\n", 1, "header"),
        ("", 1, "header"),
    ],
)
def test_refused_csv(tmp_path: Path, text: str, line: int, reason: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(SiteMapError) as error:
        Terminology(path)
    assert (error.value.line, error.value.path) == (line, path)
    assert reason in error.value.reason
    assert f"site.csv, line {line}" in str(error.value)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("[[codes]]\nconcept = 1\nsystem='x'\ncode='y'\n", 1, "concept is not a text"),
        ("[[codes]]\nconcept='wbc'\nsystem='x'\n", 1, "code is empty"),
        (
            "\n[[codes]]\nconcept='wbc'\nsystem='x'\ncode='y'\n\n[[codes]]\nconcept='nope'\nsystem='x'\ncode='z'\n",
            7,
            "nope",
        ),
        ("[[codes]]\nconcept='wbc'\nsystem='x'\ncode='y'\nmeaning='?'\n", 1, "unknown key meaning"),
        ("extra = 1\n", 1, "unknown key extra"),
        ("codes = 5\n", 1, "codes is not a list"),
        ("codes = [1]\n", 1, "is not a table"),
        ("systems = 5\n", 1, "systems is not a table"),
        ("[systems]\n'http://x' = 5\n", 2, "is not a text"),
        ("[[codes]\n", 1, "not TOML"),
        ("\n\nx = \n", 3, "not TOML"),
    ],
)
def test_refused_toml(tmp_path: Path, text: str, line: int, reason: str) -> None:
    path = written(tmp_path, text, "site.toml")
    with pytest.raises(SiteMapError) as error:
        Terminology(path)
    assert error.value.line == line
    assert reason in error.value.reason


def test_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(SiteMapError, match="cannot be read"):
        Terminology(tmp_path / "missing.csv")
    broken = tmp_path / "big5.csv"
    broken.write_bytes("concept_id,system,code,display\nwbc,x,y,白血球\n".encode("big5"))
    with pytest.raises(SiteMapError, match="not UTF-8"):
        Terminology(broken)


def test_load_keeps_one_instance_per_map(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD + f"wbc,{LAB},W,\n")
    assert load(path) is load(path)
    assert load(path) is not load()
