"""Presets: what is shipped, how files and overrides add up, and that the documentation is true."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import tomli
from msgspec import inspect

from presets import catalog
from presets.catalog import list_presets, load
from presets.errors import CifartuiError
from presets.schema import AdamW, Cosine, Plateau, Preset, Resize, Sgd, Vgg

pytestmark = pytest.mark.usefixtures("users")
MINIMAL = """
title = "Mine"
[data]
dataset = "cifar100"
[model]
network = "basenet"
[train]
epochs = 1
batch_size = 32
[optimizer]
name = "sgd"
lr = 0.1
"""


def names() -> list[str]:
    return [entry.name for entry in list_presets()]


# --- what is shipped ---


def test_shipped_presets_are_whole_and_in_order() -> None:
    listed = list_presets()
    assert [entry.problem for entry in listed] == [""] * len(listed)
    groups = [entry.preset.group for entry in listed if entry.preset is not None]
    assert list(dict.fromkeys(groups)) == [
        "demo",
        "report",
        "ablation",
        "birds",
        "networks",
        "photos",
        "recipes",
        "transfer",
    ]
    assert names()[:5] == ["demo", "basenet", "vgg-custom", "vgg-custom-5", "ablation/step-00"]
    assert names().index("ablation/step-02") < names().index("ablation/step-10")
    for entry in listed:
        assert entry.preset is not None
        assert entry.preset.summary
        assert load(entry.name) == entry.preset


def test_titles_tell_shipped_presets_apart() -> None:
    titles = [entry.preset.title for entry in list_presets() if entry.preset]
    assert len(set(titles)) == len(titles)


def test_demo_says_that_its_data_is_generated() -> None:
    demo = load("demo")
    assert demo.data.dataset == "shapes100"
    assert "generate" in demo.summary


def test_vgg_custom_is_the_reports_table() -> None:
    preset = load("vgg-custom")
    assert preset.model == Vgg(
        blocks=((64, 64), (128, 128), (256, 256), (512, 512)), pools=("max", "max", "max", "avg"), head=(4096,)
    )
    assert preset.optimizer == Sgd(lr=0.1, momentum=0.9)
    assert preset.schedule == Plateau(factor=0.1, patience=3)
    assert (preset.report.val_top1, preset.report.test_top1) == (0.77, 0.782)
    assert isinstance(preset.train.augment[0], Resize)
    assert preset.train.augment[0].scale * preset.data.image_size == 160


def test_vgg_custom_trains_at_another_size_by_one_override() -> None:
    assert load("vgg-custom", ["data.image_size=32"]).data.image_size == 32


def test_vgg_custom_5_has_a_fifth_block_and_pools_after_it() -> None:
    four, five = load("vgg-custom"), load("vgg-custom-5")
    assert isinstance(four.model, Vgg)
    assert isinstance(five.model, Vgg)
    assert five.model.blocks == (*four.model.blocks, (512, 512))
    assert five.model.pools == ("max", "max", "max", "none", "avg")
    assert five.model.head == four.model.head
    assert (five.data, five.train, five.optimizer) == (four.data, four.train, four.optimizer)


# --- listing ---


def test_user_presets_come_last_in_natural_order(users: Path) -> None:
    for name in ("run10", "run9", "deep/run1"):
        path = users / f"{name}.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(MINIMAL)
    assert names()[-3:] == ["deep/run1", "run9", "run10"]


def test_groups_of_ones_own_stand_before_yours(users: Path) -> None:
    (users / "a.toml").write_text(MINIMAL)
    (users / "b.toml").write_text('group = "zoo"\n' + MINIMAL)
    assert names()[-2:] == ["b", "a"]


def test_a_broken_user_preset_is_listed_with_its_problem(users: Path) -> None:
    (users / "broken.toml").write_text("title = ")
    entry = list_presets()[-1]
    assert (entry.name, entry.preset) == ("broken", None)
    assert "broken.toml is not valid TOML" in entry.problem


def test_a_dangling_link_and_a_folder_called_toml_break_nothing(users: Path) -> None:
    (users / "gone.toml").symlink_to(users / "nowhere")
    (users / "folder.toml").mkdir()
    entry = list_presets()[-1]
    assert entry.name == "gone"
    assert "does not exist" in entry.problem


def test_a_user_preset_takes_the_place_of_a_shipped_one_and_may_extend_it(users: Path) -> None:
    (users / "vgg-custom.toml").write_text('extends = "vgg-custom"\ntitle = "My VGG"\ntrain.epochs = 3')
    preset = load("vgg-custom")
    assert (preset.title, preset.train.epochs, preset.train.batch_size) == ("My VGG", 3, 64)
    assert names().count("vgg-custom") == 1
    assert load("vgg-custom-5").train.epochs == 30  # shipped presets extend shipped presets


def test_a_missing_user_folder_is_no_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(catalog, "user_folder", lambda: tmp_path / "nowhere")
    assert "demo" in names()


# --- extending and overriding ---


def test_tables_merge_key_by_key_and_lists_replace(users: Path) -> None:
    (users / "mine.toml").write_text('extends = "vgg-custom"\ntrain = { augment = [] }\nmodel = { head = [10] }')
    preset, parent = load("mine"), load("vgg-custom")
    assert (preset.train.augment, preset.train.batch_size) == ((), 64)
    assert isinstance(preset.model, Vgg)
    assert isinstance(parent.model, Vgg)
    assert (preset.model.head, preset.model.blocks) == ((10,), parent.model.blocks)
    assert (preset.group, preset.title) == ("yours", "Custom VGG")


def test_a_user_preset_keeps_the_group_it_states(users: Path) -> None:
    (users / "base.toml").write_text('extends = "vgg-custom"\ngroup = "zoo"')
    (users / "child.toml").write_text('extends = "base"')
    assert load("child").group == "zoo"


def test_another_optimizer_starts_afresh(users: Path) -> None:
    (users / "mine.toml").write_text('extends = "vgg-custom"\noptimizer = { name = "adamw" }')
    assert load("mine").optimizer == AdamW()


def test_results_belong_to_one_preset(users: Path) -> None:
    (users / "mine.toml").write_text('extends = "vgg-custom"\nreport = { val_top1 = 0.5 }')
    assert load("mine").report.val_top1 == 0.5
    assert load("mine").report.test_top1 is None


@pytest.mark.parametrize("reverse", [False, True])
def test_overrides_of_a_table_work_in_any_order(reverse: bool) -> None:
    overrides = ["optimizer.name=adamw", "optimizer.lr=1e-4", "schedule.final_lr=1e-6", "schedule.name=cosine"]
    preset = load("vgg-custom", overrides[::-1] if reverse else overrides)
    assert preset.optimizer == AdamW(lr=1e-4)
    assert preset.schedule == Cosine(final_lr=1e-6)


def test_naming_the_same_optimizer_keeps_its_settings() -> None:
    assert load("vgg-custom", ["optimizer.name=sgd"]).optimizer == Sgd(lr=0.1, momentum=0.9)


def test_the_last_override_of_a_key_holds() -> None:
    assert load("demo", ["train.epochs=3", "train.epochs=4"]).train.epochs == 4


def test_overrides_are_toml_or_plain_words() -> None:
    overrides = ["data.normalize=none", "train.augment=[]", "optimizer.lr = 1", 'title="a = b"', "data.path=~/my data"]
    preset = load("vgg-custom", overrides)
    assert (preset.data.normalize, preset.train.augment, preset.optimizer.lr) == ("none", (), 1.0)
    assert (preset.title, preset.data.path) == ("a = b", "~/my data")


def test_a_file_is_loaded_by_path_and_extends_its_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "base.toml").write_text(MINIMAL)
    (tmp_path / "child.toml").write_text('extends = "./base.toml"\ntitle = "Child"')
    assert load(str(tmp_path / "child.toml")).title == "Child"
    monkeypatch.chdir(tmp_path)
    assert load("child.toml").title == "Child"
    (tmp_path / "plain").write_text(MINIMAL)
    assert load("plain").title == "Mine"


def test_a_file_in_the_current_folder_does_not_hide_a_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "demo").write_text("nonsense")
    monkeypatch.chdir(tmp_path)
    assert load("demo").group == "demo"


def test_weights_files_lie_beside_the_preset_and_names_stay_names(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('extends = "resnet50-frozen"\nmodel.weights = "mine.pt"')
    assert msgspec.to_builtins(load(str(tmp_path / "mine.toml")))["model"]["weights"] == str(tmp_path / "mine.pt")
    assert msgspec.to_builtins(load("resnet50-frozen"))["model"]["weights"] == "IMAGENET1K_V2"


@pytest.mark.parametrize("name", ["mine.tar", "epoch_9", "weights"])
def test_a_weights_file_of_any_name_that_is_there_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Workers run in "/", and would look for it there."""
    (tmp_path / name).touch()
    (tmp_path / "mine.toml").write_text(f'extends = "resnet50-frozen"\nmodel.weights = "{name}"')
    monkeypatch.chdir(tmp_path)
    for preset in (load(str(tmp_path / "mine.toml")), load("resnet50-frozen", [f"model.weights={name}"])):
        assert msgspec.to_builtins(preset)["model"]["weights"] == str(tmp_path / name)


def test_none_takes_out_a_key_that_may_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "none").touch()
    (tmp_path / "mine.toml").write_text('extends = "resnet50-frozen"\nmodel.weights = "none"')
    monkeypatch.chdir(tmp_path)
    for preset in (load(str(tmp_path / "mine.toml")), load("resnet50-frozen", ["model.weights=none"])):
        assert msgspec.to_builtins(preset)["model"]["weights"] is None
    preset = load("photos/frozen", ["model.frozen=false", "train.feature_views=none", "data.normalize=none"])
    assert preset.train.feature_views is None
    assert preset.data.normalize == "none"  # not a key left out, but its value
    with pytest.raises(CifartuiError, match=r"model\.weights is not a key of \[model\]"):
        load("basenet", ["model.weights=none"])


@pytest.mark.parametrize("name", ["default", "IMAGENET1K_V1"])
def test_names_of_published_weights_stay_names_whatever_lies_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert msgspec.to_builtins(load("resnet50-frozen", [f"model.weights={name}"]))["model"]["weights"] == name


# --- the documentation ---


def schema_keys(node: inspect.Type) -> set[str]:
    match node:
        case inspect.StructType():
            own = {field.encode_name for field in node.fields} | ({node.tag_field} if node.tag_field else set())
            return own.union(*(schema_keys(field.type) for field in node.fields))
        case inspect.UnionType():
            return set().union(*(schema_keys(kind) for kind in node.types))
        case inspect.VarTupleType():
            return schema_keys(node.item_type)
        case _:
            return set()


def schema_words(node: inspect.Type) -> set[str]:
    """Return every word that a preset may choose: networks, optimizers, operations, normalisations …"""
    match node:
        case inspect.StructType():
            tag = {str(node.tag)} if node.tag else set()
            return tag.union(*(schema_words(field.type) for field in node.fields))
        case inspect.UnionType():
            return set().union(*(schema_words(kind) for kind in node.types))
        case inspect.VarTupleType():
            return schema_words(node.item_type)
        case inspect.LiteralType():
            return {str(value) for value in node.values}
        case _:
            return set()


def test_the_documentation_names_every_key_and_every_choice() -> None:
    text = Path(__file__).parents[2].joinpath("docs", "presets.md").read_text(encoding="utf-8")
    schema = inspect.type_info(Preset)
    keys, words = schema_keys(schema), schema_words(schema)
    assert {"label_smoothing", "padding", "betas", "op"} <= keys
    assert {"random-crop", "one-cycle", "bf16"} <= words
    assert sorted(key for key in keys | words if f"`{key}`" not in text) == []


def test_the_documentations_example_is_a_preset(tmp_path: Path) -> None:
    text = Path(__file__).parents[2].joinpath("docs", "presets.md").read_text(encoding="utf-8")
    examples = [part.split("```")[0] for part in text.split("```toml\n")[1:]]
    assert examples
    for example in examples:
        assert tomli.loads(example)
        (tmp_path / "example.toml").write_text(example, encoding="utf-8")
        load(str(tmp_path / "example.toml"))


def test_many_presets_are_loaded_as_each_alone_and_their_files_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [listed.name for listed in list_presets() if listed.preset is not None]
    overrides = ["train.batch_size=7", "title=Changed"]
    changed, plain = [load(name, overrides) for name in names], [load(name) for name in names]
    read, paths = catalog.read_table, list[Path]()

    def read_table(path: Path) -> dict[str, Any]:
        paths.append(path)
        return read(path)

    monkeypatch.setattr(catalog, "read_table", read_table)
    load_next = catalog.loader()
    assert [load_next(name, overrides) for name in names] == changed
    assert [load_next(name, ()) for name in names] == plain, "overrides leave no trace"
    assert len(paths) == len(set(paths))


def test_a_backbones_library_says_the_input_that_a_preset_leaves_out(tmp_path: Path) -> None:
    def data(*overrides: str) -> tuple[int, str]:
        preset = load("photos/frozen", overrides)
        return preset.data.image_size, preset.data.normalize

    assert data() == (224, "imagenet")
    assert data("model.name=efficientnet_v2_l") == (480, "half")
    assert data("model.name=vit_b_16", "model.weights=IMAGENET1K_SWAG_E2E_V1") == (384, "imagenet")
    assert data("model.name=tf_efficientnet_lite0", "model.source=timm") == (224, "half")
    assert data("model.name=vit_base_patch16_clip_224.openai", "model.source=timm") == (224, "clip")
    assert data("model.name=efficientnet_v2_l", "data.image_size=96") == (96, "half")
    assert data("data.normalize=none", "data.image_size=64") == (64, "none")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model.name=convnext_tinny"], 'not "convnext_tinny"; did you mean "convnext_tiny"?'),
        (["model.name=nothing_like_it"], "`cifartui presets --backbones` lists them"),
        (["model.name=alexnet", "data.image_size=32"], "data.image_size must be at least 63 for alexnet, not 32."),
        (["model.weights=IMAGENET1K_V9"], 'must be "default" or "IMAGENET1K_V1" or a file, not "IMAGENET1K_V9"'),
        (["model.weights=imagenet"], '"IMAGENET1K_V1" or a file, not "imagenet".'),
        (["model.name=vit_b_16", "model.weights=IMAGENET1K_SWAG_E2E"], 'mean "IMAGENET1K_SWAG_E2E_V1"?'),
        (["model.source=timm", "model.weights=augreg"], 'model.weights of efficientnet_b0 must be "default" or a file'),
        (["model.source=timm", "model.weights=IMAGENET1K_V1"], 'must be "default" or a file, not "IMAGENET1K_V1"'),
        (
            ["model.name=vit_tiny_patch16_224"],
            'model.name = "vit_tiny_patch16_224" is a network of timm; set model.source = "timm" too.',
        ),
        (["model.name=vit_tiny_patch16_224.augreg_in21k"], 'is a network of timm; set model.source = "timm" too.'),
        (["model.name=swin_v2_t", "model.source=timm"], 'classifier of torchvision; set model.source = "torchvision".'),
        (["model.source=timm", "model.name=efficientnet_b6"], "model.weights: timm publishes none for efficientnet_b6"),
        (["model.source=timm", "model.name=not_of_timm"], "or set data.image_size and data.normalize."),
        (["model.name=../x"], "model.name must be"),
        (["model.source=keras"], 'model.source must be "timm" or "torchvision"'),
    ],
)
def test_a_backbone_that_cannot_be_is_refused(overrides: list[str], words: str) -> None:
    with pytest.raises(CifartuiError) as caught:
        load("photos/frozen", overrides)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model.weights=IMAGENET1K_V3"], 'model.weights of resnet50 must be "default", "IMAGENET1K_V2" or "IMAGENET'),
        (["model.weights=absent"], 'or a file, not "absent".'),
        (["model.network=resnet18", "model.weights=IMAGENET1K_V2"], 'did you mean "IMAGENET1K_V1"?'),
        (["model.stem=small", "model.weights=default"], 'were trained with model.stem = "imagenet"'),
    ],
)
def test_weights_that_torchvision_does_not_publish_for_a_resnet_are_refused(overrides: list[str], words: str) -> None:
    with pytest.raises(CifartuiError) as caught:
        load("resnet50-frozen", overrides)
    assert words in str(caught.value)


def test_a_network_that_the_table_does_not_know_is_taken_if_its_input_is_stated() -> None:
    preset = load(
        "photos/frozen",
        ["model.source=timm", "model.name=of_tomorrow", "data.image_size=224", "data.normalize=half"],
    )
    assert preset.model.name == "of_tomorrow"  # type: ignore[union-attr]
