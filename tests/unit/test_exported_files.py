"""Exported models of the run that is kept: what each file says of itself and gives, and what is refused."""

import json
import resource
import shutil
import struct
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import cifartui
from engine.journal.data_record import DataRecord, SplitRecord
from engine.models.build import build_unfilled
from engine.models.library_names import library_call, named
from engine.runs.export_record import FILE, KEY, SUFFIXES, ExportRecord, fingerprint_of, read_record
from engine.runs.find_run import find_model
from engine.runs.run_dir import RunDir
from engine.training import export_model
from engine.training.export_checks import compare
from engine.training.export_model import Exported, export
from presets import schema
from presets.errors import CifartuiError
from tests import sample_model

KEPT = Path(__file__).parents[1] / "data/run-0.1.0"
GRAPHS = ("onnx", "pt2", "torchscript")
needs_onnx = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="needs onnx, onnxscript and onnxruntime: pip install 'cifartui[onnx]'",
)
WRITTEN = [
    pytest.param(kind, each, marks=needs_onnx if kind == "onnx" else ())
    for kind in SUFFIXES
    for each in ((False, True) if kind in GRAPHS else (False,))
]
LOADED = [pytest.param("safetensors", False), *(pytest.param("onnx", each, marks=needs_onnx) for each in (False, True))]
pytestmark = pytest.mark.slow


Files = Callable[[Any, bool], tuple[Path, Exported]]


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(Path(shutil.copytree(KEPT, tmp_path / "runs" / "20260101T000000-tiny-0000")))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Return a function that gives the file of a format, with or without preparation, written once for all tests."""
    folder = tmp_path_factory.mktemp("exported")

    @cache
    def file(kind: Any, with_preprocessing: bool) -> tuple[Path, Exported]:
        path = folder / f"{with_preprocessing}{SUFFIXES[kind]}"
        return path, export(RunDir(KEPT), path, kind, with_preprocessing=with_preprocessing)

    return file


def text_in(kind: str, path: Path) -> str | bytes:
    """Return the record in a file, as its format's own library reads it."""
    if kind == "safetensors":
        with safe_open(path, framework="pt") as opened:
            return str(opened.metadata()[KEY])
    if kind == "onnx":
        import onnx

        return str({each.key: each.value for each in onnx.load(path).metadata_props}[KEY])
    extra = {FILE: ""}
    if kind == "pt2":
        torch.export.load(path, extra_files=extra)
    else:
        torch.jit.load(path, _extra_files=extra)
    return extra[FILE]


def test_it_tells_how_far_it_is(run: RunDir, tmp_path: Path) -> None:
    told: list[str] = []
    export(run, tmp_path / "model.safetensors", "safetensors", tell=told.append)
    compared = [f"comparing: {done} of 256 images" for done in (0, *range(1, 256, 15))]
    assert told == ["loading the network", "writing safetensors", *compared]


def test_safetensors_holds_no_preparation(run: RunDir, tmp_path: Path) -> None:
    with pytest.raises(CifartuiError, match="holds tensors and no operations"):
        export(run, tmp_path / "model.safetensors", "safetensors", with_preprocessing=True)
    assert [each.name for each in tmp_path.iterdir()] == ["runs"]


@pytest.mark.parametrize(("kind", "with_preprocessing"), WRITTEN)
def test_each_format_gives_what_the_network_gives_and_says_what_it_is(
    kind: Any, with_preprocessing: bool, files: Files
) -> None:
    path, exported = files(kind, with_preprocessing)
    checked, record = exported.checked, exported.record
    assert checked.num_agreeing == checked.num_images == 256
    assert checked.is_random
    assert "/home/somebody/images" in checked.why_random
    assert checked.largest_difference < 1e-5
    assert read_record(text_in(kind, path), path) == record
    assert record.classes == sample_model.CLASSES
    assert record.input.dtype == ("uint8" if with_preprocessing else "float32")
    assert record.preprocessing.mean == (0.5, 0.5, 0.5)
    assert record.preset.title == "Tiny"
    assert record.trained_with == {"python": "3.11.7", "torch": "2.14.1+cu130"}  # of a version that recorded no others
    assert record.metrics.val_top1 == pytest.approx(0.9333, abs=1e-4)
    assert record.data is not None
    assert len(record.data.fingerprint) == 64
    assert b"/home/" not in path.read_bytes()
    if with_preprocessing:
        assert checked.largest_level is not None
        assert checked.largest_level <= 1
        assert checked.resized_agreeing == checked.num_resized == 64


@pytest.mark.parametrize(("kind", "with_preprocessing"), LOADED)
def test_a_loaded_file_predicts_what_its_run_predicts(kind: Any, with_preprocessing: bool, files: Files) -> None:
    path, _ = files(kind, with_preprocessing)
    images = [sample_model.pixels(label, number) for label in range(3) for number in (100, 101)]
    expected, found = cifartui.load(KEPT, device="cpu"), cifartui.load(path, device="cpu")
    torch.testing.assert_close(found.probabilities(images), expected.probabilities(images), atol=2e-6, rtol=0)
    assert (found.classes, found.metrics, found.run, found.checkpoint, found.preset.title) == (
        expected.classes, expected.metrics, expected.run, "best", "Tiny",
    )  # fmt: skip
    inputs = found.transform(images)
    assert inputs.dtype == (torch.uint8 if with_preprocessing else torch.float32)
    assert found.network(inputs).shape == (6, 3)
    assert path.name in repr(found)


@pytest.mark.parametrize("kind", ["pt2", "torchscript"])
def test_a_program_is_never_loaded_from_a_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{SUFFIXES[kind]}"
    path.write_bytes(b"anything")
    with pytest.raises(CifartuiError, match="is a program, and no program of a file is run: export the run as onnx"):
        find_model(tmp_path / "runs", str(path))


def test_a_file_that_is_not_there_is_no_run(run: RunDir) -> None:
    with pytest.raises(CifartuiError, match=r"There is no file u\.onnx; cifartui export RUN writes one"):
        find_model(run.path.parent, "u.onnx")


@pytest.mark.parametrize("kind", ["torchscript", "safetensors"])
def test_a_file_that_differs_is_not_kept(
    kind: Any, run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, reload = tmp_path / f"model{SUFFIXES[kind]}", export_model.reload
    monkeypatch.setattr(export_model, "reload", lambda *given: lambda images: reload(*given)(images) + 0.01)
    with pytest.raises(CifartuiError, match=r"was not kept: loaded again, its logits differ .* by up to 0\.01"):
        export(run, path, kind)
    assert [each.name for each in tmp_path.iterdir()] == ["runs"]


def test_a_run_in_bf16_is_exported_with_its_preparation(run: RunDir, tmp_path: Path) -> None:
    """A file computes in float32, so it is compared with a network that does."""
    settings = json.loads((run.path / "run.json").read_text())
    settings["preset"]["train"]["precision"] = "bf16"
    (run.path / "run.json").write_text(json.dumps(settings))
    checked = export(run, tmp_path / "model.torchscript", "torchscript", with_preprocessing=True).checked
    assert (checked.num_agreeing, checked.resized_agreeing) == (checked.num_images, checked.num_resized)


@pytest.mark.parametrize("kind", [pytest.param(each, marks=needs_onnx if each == "onnx" else ()) for each in SUFFIXES])
def test_a_disk_that_fills_is_said_in_every_format(kind: Any, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):  # which the process words
            export(RunDir(KEPT), tmp_path / f"model{SUFFIXES[kind]}", kind)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_only_rounding_is_let_through() -> None:
    logits = torch.tensor([[3.0, -20.0], [1.0, 2.0]])
    assert compare(logits, logits + 1e-4).num_agreeing == 2
    for wrong in (logits + 0.01, logits.flip(1), logits * torch.nan, logits[:1], logits[:, :1]):
        with pytest.raises(CifartuiError, match="was not kept"):
            compare(logits, wrong)


def test_a_network_that_a_format_cannot_hold_is_a_sentence(run: RunDir, tmp_path: Path) -> None:
    class Reads(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images * float(images.sum().item() > 0)

    from engine.training.export_formats import write
    from engine.training.trained_network import load_trained

    record = export_model.record_of(run, load_trained(run, "best", "cpu"), "pt2", with_preprocessing=False)
    with pytest.raises(CifartuiError, match=r"cannot be written as pt2 \(.*\): choose another --format"):
        write("pt2", Reads(), torch.ones(2, 3, 8, 8), (0,), record, tmp_path / "model.pt2")


@needs_onnx
def test_a_network_beyond_the_limit_of_onnx_is_a_sentence(run: RunDir, tmp_path: Path, monkeypatch: Any) -> None:
    from engine.training import export_formats

    monkeypatch.setattr(export_formats, "_MOST_ONNX_BYTES", 100)
    with pytest.raises(CifartuiError, match="ONNX file holds 2 GiB at most: choose --format pt2"):
        export(run, tmp_path / "model.onnx", "onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_damaged_and_foreign_files_are_said(files: Files, tmp_path: Path) -> None:
    (good, _), bad = files("safetensors", False), tmp_path / "bad.safetensors"
    tensors, text = load_file(good), text_in("safetensors", good)
    assert isinstance(text, str)
    first = next(iter(tensors))
    other: dict[str, Any] = json.loads(text) | {"version": 99}
    for content, metadata, why in (
        (tensors, {}, "was not exported by cifartui"),
        (tensors, {KEY: "{}"}, "says of itself cannot be read"),
        (tensors, {KEY: json.dumps(other)}, "of a newer version"),
        ({**tensors, "more": torch.ones(1)}, {KEY: text}, "weights are those of another network"),
        ({**tensors, first: torch.ones(1)}, {KEY: text}, "another shape"),
        ({**tensors, first: tensors[first] * torch.nan}, {KEY: text}, "does not fit its own preset"),
    ):
        save_file(content, bad, metadata)
        with pytest.raises(CifartuiError, match=why):
            cifartui.load(bad, device="cpu")
    for content_bytes in (b"", struct.pack("<Q", 2**60), b"PK\x03\x04", good.read_bytes()[:-1]):
        bad.write_bytes(content_bytes)
        with pytest.raises(CifartuiError, match="cannot be loaded"):
            cifartui.load(bad, device="cpu")


@needs_onnx
def test_onnx_of_others_is_refused_unless_it_is_alone_and_says_what_it_is(files: Files, tmp_path: Path) -> None:
    import onnx
    from onnx.external_data_helper import convert_model_to_external_data

    (good, _), bad = files("onnx", False), tmp_path / "bad.onnx"
    model = onnx.load(good)
    del model.metadata_props[:]
    onnx.save(model, bad)
    with pytest.raises(CifartuiError, match="was not exported by cifartui"):
        cifartui.load(bad, device="cpu")
    model = onnx.load(good)
    convert_model_to_external_data(model, location="numbers", size_threshold=0)
    onnx.save(model, bad)
    with pytest.raises(CifartuiError, match="takes numbers from another file"):
        cifartui.load(bad, device="cpu")
    bad.write_bytes(b"no graph")
    with pytest.raises(CifartuiError, match="cannot be loaded"):
        cifartui.load(bad, device="cpu")
    text = text_in("onnx", good)
    model = onnx.load(good)
    fewer = msgspec.structs.replace(msgspec.json.decode(text, type=ExportRecord), classes=("a", "b"))
    next(each for each in model.metadata_props if each.key == KEY).value = msgspec.json.encode(fewer).decode()
    onnx.save(model, bad)
    with pytest.raises(CifartuiError, match="something else than it says"):
        cifartui.load(bad, device="cpu")
    with pytest.raises(CifartuiError, match="take --device cpu, not cuda"):
        cifartui.load(good, device="cuda")


@needs_onnx
def test_a_graph_that_fails_or_gives_other_than_logits_is_a_sentence(files: Files, tmp_path: Path) -> None:
    """Rows in another number would be waited for without end, and text is no logits."""
    import onnx
    from onnx import TensorProto, helper

    (good, _), bad = files("onnx", False), tmp_path / "bad.onnx"

    def load(*nodes: Any, kind: int = TensorProto.FLOAT) -> cifartui.Model:
        model = onnx.load(good)
        out = model.graph.output[0]
        for node in model.graph.node:
            node.output[:] = ["before" if name == out.name else name for name in node.output]
        out.type.tensor_type.elem_type = kind
        shape = helper.make_tensor("shape", TensorProto.INT64, [2], [2**20, 2**20])
        model.graph.initializer.extend([shape, helper.make_tensor("none", TensorProto.INT64, [2], [0, 3])])
        model.graph.node.extend(nodes)
        onnx.save(model, bad)
        return cifartui.load(bad, device="cpu")

    make, image = helper.make_node, sample_model.pixels(0, 100)
    assert load(make("Identity", ["before"], ["logits"])).predict(image)
    for kind in (TensorProto.STRING, TensorProto.INT64):
        with pytest.raises(CifartuiError, match="gives something else than it says"):
            load(make("Cast", ["before"], ["logits"], to=kind), kind=kind)
    huge = load(
        make("ConstantOfShape", ["shape"], ["huge"]),
        make("ReduceSum", ["huge"], ["sum"], keepdims=0),
        make("Add", ["before", "sum"], ["logits"]),
    )
    with pytest.raises(CifartuiError, match=r"bad\.onnx cannot be run \(.*: export the run again"):
        huge.predict(image)
    for nodes in (
        [make("ConstantOfShape", ["none"], ["logits"])],
        [make("Concat", ["before", "before"], ["logits"], axis=0)],
    ):
        with pytest.raises(CifartuiError, match="gives something else than it says"):
            load(*nodes).predict(image)


def test_the_fingerprint_is_that_of_the_data() -> None:
    record = DataRecord(
        dataset="shapes100",
        source="/a",
        class_names=("a", "b"),
        splits={"train": SplitRecord(num_images=3, digest="d")},
    )
    moved = msgspec.structs.replace(record, source="/b")
    assert fingerprint_of(record) == fingerprint_of(moved)
    more = SplitRecord(num_images=4, digest="d")
    other = msgspec.structs.replace(record, splits={"train": more})
    assert fingerprint_of(record).fingerprint != fingerprint_of(other).fingerprint
    renamed = msgspec.structs.replace(record, class_names=("a", "c"))
    assert fingerprint_of(record).fingerprint != fingerprint_of(renamed).fingerprint


# --- names of torchvision and timm ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "size"),
    [
        (schema.Resnet18(), 32),
        (schema.Resnet50(frozen=True), 32),
        (schema.Backbone(name="squeezenet1_1"), 64),
        (schema.Backbone(name="mobilenet_v3_small", dropout=0.1), 32),
        (schema.Backbone(name="vit_b_32"), 64),
        (schema.Backbone(name="googlenet", weights="default"), 64),
        (schema.Backbone(name="swin_t"), 32),
    ],
    ids=lambda value: getattr(value, "name", type(value).__name__) if not isinstance(value, int) else str(value),
)
def test_torchvision_takes_the_tensors(model: schema.Model, size: int, tmp_path: Path) -> None:
    import torchvision

    torch.manual_seed(0)
    network = build_unfilled(model, 7, size).eval()
    called = library_call(model, size)
    assert called is not None
    save_file({name: value.contiguous() for name, value in named(network).items()}, tmp_path / "model.safetensors")
    theirs = torchvision.models.get_model(called[1], num_classes=7, **called[2]).eval()
    theirs.load_state_dict(load_file(tmp_path / "model.safetensors"))
    images = torch.rand(2, 3, size, size)
    with torch.inference_mode():
        torch.testing.assert_close(theirs(images), network(images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "size"), [("resnet18", 32), ("vit_tiny_patch16_224", 32), ("tf_efficientnet_lite0", 32)]
)
def test_timm_takes_the_file(name: str, size: int, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    model, path = schema.Backbone(name=name, source="timm"), tmp_path / "model.safetensors"
    torch.manual_seed(0)
    network = build_unfilled(model, 7, size).eval()
    save_file({key: value.contiguous() for key, value in named(network).items()}, path)
    called = library_call(model, size)
    assert called is not None
    theirs = timm.create_model(name, num_classes=7, checkpoint_path=str(path), **called[2]).eval()
    images = torch.rand(2, 3, size, size)
    with torch.inference_mode():
        torch.testing.assert_close(theirs(images), network(images), atol=1e-5, rtol=1e-5)


def test_a_network_of_ours_is_no_librarys() -> None:
    for model in (schema.BaseNet(), schema.Resnet18(stem="small"), schema.Resnet9()):
        assert library_call(model, 32) is None


def test_the_input_of_pretrained_inception_is_scaled_when_it_is_loaded() -> None:
    for name in ("googlenet", "inception_v3"):
        for weights in (None, "default"):
            network = build_unfilled(schema.Backbone(name=name, weights=weights), 3, 96)
            assert network.body.transform_input == (weights is not None)  # type: ignore[union-attr]
