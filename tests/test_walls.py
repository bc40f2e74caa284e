"""The plan of the house, guarded: who may import whom, and nothing heavy before it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WINGS = ("detectors", "generators", "reports")

# Room -> the rooms it may import. `errors` and `types` are open to all and import nothing of ours.
BASE = {"errors", "types"}
MAY: dict[str, set[str] | None] = {
    "errors": set(),
    "types": {"errors"},
    "registry": BASE,
    "cache": BASE,
    "hardware": BASE,
    "resample": BASE,
    "assets": set(),
    "assets_detectors": {"assets"},
    "downloads": BASE | {"cache"},
    "weights": BASE | {"assets", "assets_detectors", "cache", "downloads"},
    "progress": BASE,
    "interrupts": set(),
    "thumbnails": BASE,
    "settings": BASE,
    "suite": BASE,
    "records": BASE | {"cache"},
    "statistics": BASE | {"cache", "hardware"},
    "samples": BASE | {"cache", "downloads", "statistics"},
    "hashlists": BASE,
    "known": BASE | {"hashlists"},
    "linting": BASE | {"samples"},
    "laundering": BASE,
    "normalising": BASE | {"laundering", "samples"},
    "containers": BASE,
    "leakage": BASE | {"containers", "hardware", "metrics", "normalising", "samples"},
    "shortcuts": BASE | {"cache", "hardware", "leakage", "metrics", "publishing", "samples"},
    "metrics": BASE | {"resample"},
    "extractors": BASE | {"weights"},
    "watermarking": BASE,
    "rows": BASE,
    "sharing": BASE | {"rows"},
    "measurement": BASE | {"cache", "hardware", "rows", "samples", "sharing"},
    "drawings": BASE | {"cache", "measurement", "records", "samples"},
    "critic": BASE | {"hardware", "registry", "samples"},
    "generation": BASE | {"cache", "critic", "drawings", "hardware", "measurement", "registry"},
    "detection": BASE | {"cache", "hardware", "laundering", "measurement", "normalising", "registry", "samples"},
    "planning": BASE | {"registry"},
    "lessons": BASE | {"evaluation", "measurement", "samples"},
    "likelihoods": BASE | {"cache", "extractors", "measurement", "planning"},
    "paths": BASE | {"hardware", "measurement", "planning", "samples"},
    "estimating": BASE | {"hardware", "measurement", "planning", "resample", "samples"},
    "evaluation": BASE
    | {"cache", "detection", "drawings", "estimating", "hardware", "measurement", "pairing", "planning", "samples"},
    "pairing": BASE,
    "exporting": BASE | {"records"},
    "pytest_plugin": None,
    "columns": BASE,
    "differences": BASE | {"columns", "pairing"},
    "standings": BASE | {"columns", "differences"},
    "findings": BASE | {"columns", "differences", "standings"},
    "concordance": BASE | {"columns", "differences", "standings"},
    "fronts": BASE | {"columns", "standings"},
    "comparison": BASE | {"columns", "concordance", "differences", "findings", "fronts", "standings"},
    "explaining": BASE | {"comparison"},
    "subjects": BASE | {"detection", "evaluation"},
    "attribution": BASE | {"comparison", "subjects"},
    "exhibits": BASE
    | {"attribution", "fronts", "judged", "measurement", "metrics", "samples", "showing", "subjects", "thumbnails"},
    "judged": BASE
    | {"detection", "leakage", "measurement", "metrics", "operating", "samples", "shortcuts", "subjects"},
    "operating": BASE | {"detection", "metrics"},
    "showing": BASE | {"attribution", "comparison", "subjects"},
    "board": BASE
    | {"comparison", "detection", "evaluation", "exhibits", "hardware", "likelihoods", "linting", "measurement"}
    | {"paths", "planning", "samples", "sharing", "subjects"},
    "entrants": BASE
    | {"board", "cache", "detection", "generation", "hardware", "likelihoods", "measurement", "planning"}
    | {"registry", "samples"}
    | {"subjects", "suite"},
    "seeds": BASE | {"columns", "differences"},
    "staging": BASE
    | {"board", "columns", "entrants", "measurement", "planning", "records", "samples", "seeds", "settings", "sharing"}
    | {"subjects", "suite"},
    "sequences": BASE,
    "blocks": BASE | {"hardware", "metrics", "planning", "sequences"},
    "stepping": BASE
    | {"blocks", "cache", "detection", "drawings", "entrants", "evaluation", "generation", "hardware", "measurement"}
    | {"planning", "samples", "sequences", "settings", "subjects"},
    "deciding": BASE
    | {"blocks", "comparison", "detection", "entrants", "evaluation", "measurement", "planning", "publishing"}
    | {"samples", "sequences", "settings", "sharing", "stepping"},
    "sizing": BASE
    | {"comparison", "detection", "entrants", "evaluation", "hardware", "measurement", "pairing", "planning"}
    | {"records", "samples", "settings", "staging", "subjects"},
    "publishing": BASE | {"cache", "records", "registry"},
    "tables": BASE | {"registry"},
    "doctor": BASE | {"cache", "hardware"},
    "summarising": BASE | {"cache", "measurement", "registry", "samples", "statistics"},
    "gating": BASE | {"comparison", "planning", "publishing", "records", "registry", "settings"},
    "options": BASE | {"cache", "hardware", "measurement", "progress", "settings", "sharing"},
    "calibration": BASE,
    "maps": BASE | {"cache", "measurement", "samples"},
    "judging": BASE
    | {"cache", "calibration", "detection", "hardware", "laundering", "maps", "measurement", "metrics", "records"}
    | {"registry", "samples", "shortcuts", "thumbnails"},
    "isolation": BASE | {"known", "registry", "samples"},
    "attacking": BASE,
    "stressing": BASE | {"attacking", "hardware", "laundering", "measurement", "metrics", "resample", "samples"},
    "scorefiles": BASE
    | {"attacking", "calibration", "detection", "hardware", "judging", "measurement", "metrics", "registry", "resample"}
    | {"samples", "stressing"},
    "sourcing": BASE
    | {"cache", "calibration", "hardware", "measurement", "metrics", "publishing", "registry", "resample", "samples"},
    "matrices": BASE
    | {"cache", "calibration", "detection", "hardware", "leakage", "measurement", "metrics", "normalising"}
    | {"publishing", "registry", "resample", "samples"},
    "marking": BASE
    | {"attacking", "cache", "calibration", "hardware", "laundering", "measurement", "records", "registry", "samples"}
    | {"watermarking"},
    "serving": BASE,
    "human": BASE | {"cache", "hardware", "normalising", "publishing", "records", "registry", "samples", "serving"},
    "viewing": BASE | {"comparison", "registry", "serving"},
    "auditing": BASE
    | {"cache", "calibration", "detection", "downloads", "hardware", "interrupts", "isolation", "judging", "known"}
    | {"maps", "measurement", "metrics", "records", "registry", "samples", "sourcing"},
    "commands": None,
    "verbs": None,
    "__init__": None,
    "cli": None,
    "__main__": None,
}
WING_MAY = {
    "detectors": BASE | {"assets", "extractors", "watermarking", "weights"},
    "generators": BASE | {"watermarking"},
    "reports": BASE,
}
FORBIDDEN_IN = {"reports": ("torch", "numpy", "PIL", "scipy", "sklearn", "pandas")}


def imports(path: Path) -> list[tuple[str, int]]:
    """Absolute dotted names of everything a file imports, with line numbers."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join((*base, *([node.module] if node.module else [])))
            found += [
                (f"{stem}.{alias.name}" if node.module is None or stem == "evalkit" else stem, node.lineno)
                for alias in node.names
            ]
    return found


def room(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[1]


LINE = sorted((ROOT / "evalkit").rglob("*.py"))
WING_FILES = [f for wing in WINGS for f in sorted((ROOT / wing).rglob("*.py"))]


@pytest.mark.parametrize("path", LINE, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_line_imports_downward_and_never_a_wing(path: Path) -> None:
    own = room(path)
    assert own in MAY, f"evalkit/{own} is a new room: give it a place in the plan"
    for name, line in imports(path):
        head, *rest = name.split(".")
        assert head not in WINGS, f"{path.name}:{line} imports the wing {head}"
        if head != "evalkit" or not rest or rest[0] == own or MAY[own] is None:
            continue
        target = rest[0]
        assert target in MAY[own], f"{path.name}:{line}: {own} may not import {target}"


@pytest.mark.parametrize("path", WING_FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_wing_knows_only_the_nouns(path: Path) -> None:
    wing = path.relative_to(ROOT).parts[0]
    for name, line in imports(path):
        head, *rest = name.split(".")
        assert head == wing or head not in WINGS, f"{path.name}:{line}: wings never import each other ({head})"
        if head == "evalkit":
            assert rest and rest[0] in WING_MAY[wing], f"{path.name}:{line}: {wing} may not import evalkit.{rest}"
        assert head not in FORBIDDEN_IN.get(wing, ()), f"{path.name}:{line}: {wing} computes nothing ({head})"


@pytest.mark.parametrize("path", LINE + WING_FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_is_unpickled_and_files_stay_small(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= 350, f"{path.name} hides a concept: {len(text.splitlines())} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] + [getattr(node, "module", "") or ""]
            assert not {"pickle", "joblib", "dill", "cloudpickle"} & set(names), f"{path.name}:{node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load":
            owner = getattr(node.func.value, "id", "")
            keywords = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
            assert owner != "torch" or keywords.get("weights_only") is True, f"{path.name}:{node.lineno}"
            assert owner not in ("np", "numpy") or keywords.get("allow_pickle") is False, f"{path.name}:{node.lineno}"


def test_metrics_touch_no_file_device_or_screen() -> None:
    for path in sorted((ROOT / "evalkit" / "metrics").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("open", "print", "torch.manual_seed", "np.random.seed", "numpy.random.seed"), (
                    f"{path.name}:{node.lineno} calls {called}"
                )
                assert called.split(".")[-1] not in ("read_text", "write_text", "read_bytes", "cuda"), (
                    f"{path.name}:{node.lineno} calls {called}"
                )


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["compare", "--help"], ["weights", "list"]])
def test_help_and_list_load_no_torch(arguments: list[str]) -> None:
    code = (
        "import sys; from evalkit.cli import run; code = run(sys.argv[1:]);"
        "heavy = {'torch', 'numpy', 'scipy', 'sklearn', 'pandas', 'PIL'} & set(sys.modules);"
        "sys.exit(code or (f'loaded {heavy}' if heavy else 0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
