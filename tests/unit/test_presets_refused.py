"""Presets with mistakes: every one comes back as a sentence that names the place and what is allowed."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from presets.catalog import check, load
from presets.errors import CifartuiError
from presets.schema import AdamW, Preset
from tests.unit.test_presets import MINIMAL

pytestmark = pytest.mark.usefixtures("users")


def problem(name: str, *overrides: str) -> str:
    with pytest.raises(CifartuiError) as caught:
        load(name, overrides)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    return message


OVERRIDES_REFUSED = [
    ("optimizer.lr=-1", "optimizer.lr must be a number above 0, not -1."),
    ("optimizer.lr=inf", "optimizer.lr must be a finite number, not inf."),
    ("optimizer.lr=nan", "optimizer.lr must be a number above 0, not nan."),
    ("optimizer.lr=fast", 'optimizer.lr must be a number above 0, not "fast".'),
    ("optimizer.momentum=2", "optimizer.momentum must be a number from 0 to 1, not 2."),
    ("optimizer.momentun=0.9", 'is not a key of [optimizer] with name = "sgd"; did you mean "momentum"?'),
    ("optimizer.betas=[0.9, 0.9]", "the keys are name, lr, momentum, nesterov, weight_decay, weight_decay_on."),
    ("optimizer.name=adam", 'must be "sgd", "adamw" or "muon", not "adam"; did you mean "adamw"?'),
    ("optimizer.name=3", 'must be "sgd", "adamw" or "muon", not 3.'),
    ("optimizer=3", 'optimizer must be a table with name = "sgd", "adamw" or "muon", not 3.'),
    ("loss.class_weights.cat=0", "loss.class_weights.cat must be a number above 0, not 0."),
    ("loss.class_weights={dog=1, cat='x'}", 'loss.class_weights.cat must be a number above 0, not "x".'),
    ("loss.class_weights=even", 'must be "balanced" or a table, each value a number above 0, not "even".'),
    ('loss.class_weights={"a\\u001b"=2}', "loss.class_weights must name its entries without control characters."),
    ("trian.epochs=3", 'trian is not a key at the top of a preset; did you mean "train"?'),
    ("train.epochs=2.5", "train.epochs must be a whole number from 1 to 100,000, not 2.5."),
    ("train.epochs=true", "not true."),
    ("train.epochs=0x" + "f" * 5000, "not a huge number."),
    ("train.epochs=2020-01-01", "not a date or time."),
    ("train.augment=[{}]", "train.augment[0].op is missing; it must be"),
    ('train.augment=[{op = "horizontal-flop"}]', 'did you mean "horizontal-flip"?'),
    (
        'train.augment=[{op = "resize", size = 0}]',
        "train.augment[0].size must be a whole number from 1 to 4096, not 0.",
    ),
    ('train.augment=[{op = "resize", scale = 0.001}]', "train.augment[0] resizes to 0 px"),
    ('train.augment=[{op = "random-crop"}]', "train.augment[0] cuts 128 px out of an image of 32 px;"),
    ('train.augment=[{op = "center-crop", size = 33}]', "train.augment[0] cuts 33 px out of an image of 32 px;"),
    ('train.augment=[{op = "random-crop", size = 41, padding = 4}]', "an image of 32 px, padded to 40 px;"),
    ('train.augment=[{op = "random-crop", size = 8, padding = 32, fill = "reflect"}]', "padding must be below 32"),
    ("data.normalize=halve", 'did you mean "half"?'),
    ("data.validation=1.0", 'must be "every-tenth" or a number above 0 and below 1, not 1.0.'),
    ("data.image_size=4", 'model.pools has 3 times "max", which leaves nothing of 4 px; use at most 2'),
    ("model.network=basenet", "data.image_size must be 32 for the network basenet, not 128."),
    ("model.network=resnet", 'did you mean "resnet9"?'),
    ("model.blocks=[[64, 64]]", "model.pools must have one entry for every entry of model.blocks, which has 1, not 4."),
    ("model.blocks=[[64], []]", "model.blocks[1] must be a non-empty list"),
    ("model.pools=[]", "which has 4, not 0."),
    ('model.pools=["avg", "max", "max", "avg"]', 'may have "avg" in the last place only'),
    ("title=", "has no value that TOML knows"),
    ("title=[", "has no value that TOML knows"),
    ("title=3\nextra=4", "has no value that TOML knows"),
    ("train=" + "[" * 5000, "has no value that TOML knows"),
    ('title=""', "title must be text of at most 80 characters, not empty."),
    ('title="\\u001b[2J"', "without control characters."),
    ('title="\udcff"', "without control characters."),
    ("extends=demo", "extends is not a key at the top of a preset"),
]


@pytest.mark.parametrize(("override", "expected"), OVERRIDES_REFUSED, ids=lambda text: text[:40])
def test_a_refused_override_names_itself_and_what_is_allowed(override: str, expected: str) -> None:
    message = problem("vgg-custom", "train.precision=fp32", override)
    assert expected in message
    assert message.startswith(f"--set {override.split('=')[0]}")


@pytest.mark.parametrize("override", ["optimizer.lr", "=3", "a..b=1", ""])
def test_an_override_without_key_or_value(override: str) -> None:
    assert "is not of the form key.path=value" in problem("demo", override)


def test_overrides_that_nest_without_end() -> None:
    deep = "x" + ".x" * 5000
    assert "nests tables or lists too deeply" in problem("demo", f"{deep}=1", f"{deep}.y=1")


def test_nesterov_needs_momentum() -> None:
    assert "needs optimizer.momentum above 0" in problem("basenet", "optimizer.nesterov=true", "optimizer.momentum=0")


def test_limits_are_allowed() -> None:
    load("vgg-custom", ["data.image_size=8"])
    load("vgg-custom", ['train.augment=[{op = "random-crop", size = 40, padding = 4}]'])
    load("vgg-custom", ["data.dataset=class-folders", "data.path=birds", 'train.augment=[{op = "center-crop"}]'])


def test_the_file_at_fault_is_named_not_the_one_that_extends_it(users: Path) -> None:
    (users / "base.toml").write_text(MINIMAL.replace("0.1", "-1"))
    (users / "child.toml").write_text('extends = "base"\ntrain.epochs = 2')
    assert "base.toml: optimizer.lr must be a number above 0, not -1." in problem("child")
    assert "base.toml: " in problem("child", "train.epochs=3")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("title = ", "is not valid TOML: Invalid value (at end of document)"),
        ('title = "a"\nepochs 3', "(at line 2, column 8)"),
        ("title = 1\ntitle = 2", "is not valid TOML: "),
        ("x = " + "[" * 100_000, "nested too deeply"),
        ("x" + ".x" * 20_000 + " = 1", ""),  # newer versions of tomli refuse it, older ones do not
        ("x = " + "9" * 5000, "is not valid TOML: "),
        (MINIMAL.replace("lr = 0.1", ""), "optimizer.lr is missing; it must be a number above 0."),
        (MINIMAL.replace("epochs = 1", ""), "train.epochs is missing; it must be a whole number from 1 to 100,000."),
        (MINIMAL.replace('network = "basenet"', ""), "network is missing; it must be "),
        (MINIMAL + "momentum = 'x'", 'optimizer.momentum must be a number from 0 to 1, not "x".'),
        ("", "title is missing"),
        ("extends = 3", "extends must be the name of a preset"),
        ('extends = "vgg-custum"', 'extends names "vgg-custum", which is no preset; did you mean "vgg-custom"?'),
        ('extends = "./other.toml"', 'extends names the file "./other.toml", which does not exist there.'),
        ('extends = "x.toml"', "extends goes in a circle (x.toml → x.toml)"),
        ("#" * 300_000, "larger than 256 kB"),
    ],
    ids=lambda text: text[:40],
)
def test_a_refused_file_is_named(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(content)
    message = problem(str(path))
    assert expected in message
    assert message.startswith(str(path))


def test_a_circle_is_named_link_by_link(users: Path) -> None:
    for name, parent in (("a", "b"), ("b", "c"), ("c", "b")):
        (users / f"{name}.toml").write_text(f'extends = "{parent}"')
    assert "(b.toml → c.toml → b.toml)" in problem("a")


def test_unknown_names_get_a_hint() -> None:
    assert problem("vgg-custum") == 'There is no preset called "vgg-custum"; did you mean "vgg-custom"?'
    assert "`cifartui presets` lists them." in problem("zzzzz")
    assert "There is no preset called" in problem("z" * 10_000)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "latin.toml").write_bytes(b'title = "caf\xe9"')
    assert "is a folder or a device" in problem(str(tmp_path / "folder.toml"))
    assert "is not UTF-8 text (byte 13)" in problem(str(tmp_path / "latin.toml"))
    assert "does not exist" in problem(str(tmp_path / "none.toml"))
    assert "cannot be read" in problem(str(tmp_path / ("n" * 300 + ".toml")))
    assert "cannot be read" in problem("a\0b.toml")
    assert "cannot be read" in problem("a\ud800b.toml")
    os.mkfifo(tmp_path / "pipe.toml")
    assert "is a folder or a device" in problem(str(tmp_path / "pipe.toml"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "secret.toml"
    path.write_text(MINIMAL)
    path.chmod(0)
    assert "cannot be read (Permission denied)" in problem(str(path))


def test_a_windows_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert load(str(tmp_path / "x.toml")).title == "Mine"


def test_check_names_the_key() -> None:
    preset = msgspec.structs.replace(load("demo"), optimizer=AdamW(lr=float("inf")))
    with pytest.raises(CifartuiError, match=r"optimizer\.lr must be a finite number"):
        check(preset)
    check(load("demo"))


# --- whatever comes in, only a sentence comes out ---

FUZZ = settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
KEYS = ["title", "group", "report", "data", "model", "train", "optimizer", "schedule", "loss", "name", "network", "lr"]
KEYS += ["blocks", "pools", "augment", "op", "size", "extends", "dataset", "epochs", "x", "a.b", ""]
WORDS = ["sgd", "adamw", "vgg", "basenet", "resnet50", "cosine", "cifar100", "resize", "random-crop", "avg", "demo"]
VALUES = st.recursive(
    st.one_of(st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from(WORDS), st.dates()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


def survives(name: str, *overrides: str) -> None:
    try:
        preset = load(name, overrides)
    except CifartuiError as error:
        message = str(error)
    else:
        message = "fine"
        assert msgspec.json.decode(msgspec.json.encode(preset), type=Preset) == preset
    assert message.isprintable()


@FUZZ
@given(
    content=st.one_of(st.binary(max_size=80), st.text(max_size=80).map(lambda text: text.encode("utf-8", "replace")))
)
def test_any_bytes_as_a_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "fuzz.toml").write_bytes(content)
    survives(str(tmp_path / "fuzz.toml"))


@FUZZ
@given(name=st.text(max_size=12), override=st.text(max_size=30))
def test_any_name_and_any_override(name: str, override: str) -> None:
    survives(name)
    survives("demo", override)


@FUZZ
@given(table=st.sampled_from(KEYS), key=st.sampled_from(KEYS), value=VALUES)
def test_any_value_at_any_key(table: str, key: str, value: Any) -> None:
    text = as_toml(value)
    survives("vgg-custom", f"{table}={text}")
    survives("vgg-custom", f"{table}.{key}={text}")


@FUZZ
@given(content=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6), name=st.sampled_from(["demo", "vgg-custom"]))
def test_any_table_over_any_preset(tmp_path: Path, content: dict[str, Any], name: str) -> None:
    lines = [f"{as_toml(key)} = {as_toml(value)}" for key, value in ({"extends": name} | content).items()]
    (tmp_path / "fuzz.toml").write_text("\n".join(lines), encoding="utf-8", errors="replace")
    survives(str(tmp_path / "fuzz.toml"))


def as_toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{as_toml(key)} = {as_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(as_toml(item) for item in value)}]"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08x}" for c in value) + '"'
    return str(value).lower()
