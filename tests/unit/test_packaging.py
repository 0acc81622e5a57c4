"""Metadata of the project for package pages, citations, CI and containers: it fits the project."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import tomli
import yaml

import cifartui

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_citation_has_what_its_format_requires_and_says_what_the_project_says() -> None:
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert all(isinstance(citation[key], str) and citation[key] for key in ("message", "title"))
    assert citation["type"] in {"software", "dataset"}
    assert [set(author) for author in citation["authors"]] == [{"name"}]
    known = {
        "abstract", "authors", "cff-version", "commit", "contact", "date-released", "doi", "identifiers", "keywords",
        "license", "license-url", "message", "preferred-citation", "references", "repository", "repository-artifact",
        "repository-code", "title", "type", "url", "version",
    }  # fmt: skip
    assert set(citation) <= known
    assert citation["version"] == cifartui.__version__
    assert citation["license"] == PROJECT["project"]["license"] == "MIT"
    assert citation["authors"] == PROJECT["project"]["authors"]


def test_the_changelog_has_what_is_unreleased_on_top_and_headings_of_its_form() -> None:
    text = read("CHANGELOG.md")
    versions = re.findall("^## (.+)$", text, re.MULTILINE)
    assert versions[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", version) for version in versions[1:])
    kinds = set(re.findall("^### (.+)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def package_page() -> str:
    """Return the README as the build writes it into the package."""
    hook = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    text = "".join(read(fragment["path"]) for fragment in hook["fragments"])
    for each in hook["substitutions"]:
        text = re.sub(each["pattern"], each["replacement"], text)
    return text


def test_the_package_page_links_to_nothing_that_is_not_there() -> None:
    page = package_page()
    headings = {heading.lower().replace(" ", "-") for heading in re.findall("^##+ (.+)$", page, re.MULTILINE)}
    links = re.findall(r"\]\(([^)]*)\)", page)
    assert "#installing" in links
    assert [link for link in links if not link.startswith("https://") and link[1:] not in headings] == []
    assert len(page) > 0.9 * len(read("README.md"))


def test_the_workflow_runs_the_checks_and_the_tests() -> None:
    workflow = yaml.safe_load(read(".github/workflows/check.yml"))
    (job,) = workflow["jobs"].values()
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands[-2:] == ["make check", "make test"]
    for target in ("check", "test"):
        assert re.search(rf"^{target}:", read("Makefile"), re.MULTILINE)
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert oldest in job["strategy"]["matrix"]["python"]


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile with their arguments."""
    text = re.sub(r"^#.*\n", "", read("containers/Dockerfile"), flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return [(name, rest) for name, rest in lines]


def sections() -> dict[str, str]:
    """Return the sections of the Apptainer definition, its header under an empty name."""
    parts = re.split(r"^%(\w+)\n", read("containers/cifartui.def"), flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def copied() -> list[tuple[str, str]]:
    """Return what each recipe copies from the project."""
    docker = [shlex.split(rest)[:-1] for name, rest in instructions() if name == "COPY"]
    apptainer = [line.split()[:-1] for line in sections()["files"].splitlines() if line.strip()]
    return [("Dockerfile", path) for paths in docker for path in paths] + [
        ("cifartui.def", path) for paths in apptainer for path in paths
    ]


def test_both_recipes_install_the_wheel_that_make_dist_builds() -> None:
    wheel = Path(f"dist/{PROJECT['project']['name']}-{cifartui.__version__}-py3-none-any.whl")
    found = copied()
    assert {recipe for recipe, _ in found} == {"Dockerfile", "cifartui.def"}
    assert all(wheel.match(pattern) for _, pattern in found)
    assert "--outdir dist" in read(".ci/build-dist")
    assert "bash .ci/build-dist" in read("Makefile")
    assert read("containers/Dockerfile.dockerignore").split() == ["*", "!dist"]
    runs = [rest for name, rest in instructions() if name == "RUN"]
    assert all("pip install" in text and "cifartui-*.whl" in text for text in (*runs, sections()["post"]))


def test_the_recipes_use_known_words_and_one_base() -> None:
    assert {name for name, _ in instructions()} == {"FROM", "COPY", "RUN", "ENV", "WORKDIR", "CMD"}
    assert set(sections()) == {"", "files", "post", "environment", "runscript"}
    header = dict(re.findall(r"^(\w+): (.+)$", sections()[""], re.MULTILINE))
    assert header == {"Bootstrap": "docker", "From": dict(instructions())["FROM"]}


@pytest.mark.parametrize("variable", ["CIFARTUI_RUNS", "CIFARTUI_DATA", "CIFARTUI_CACHE"])
def test_a_variable_that_the_image_sets_is_one_that_the_program_reads(variable: str) -> None:
    assert f"{variable}=/work/" in dict(instructions())["ENV"]
    assert any(variable in path.read_text(encoding="utf-8") for path in (ROOT / "engine").rglob("*.py"))


def test_what_make_container_names_is_there() -> None:
    names = re.findall(r"(?:containers|\.ci)/[\w.-]+", read("containers/build"))
    assert len(names) >= 3
    assert [name for name in names if not (ROOT / name).is_file()] == []
