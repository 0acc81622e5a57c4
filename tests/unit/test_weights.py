"""Pretrained weights: found, fetched, read safely, and refused with a sentence where they do not fit."""

import argparse
import hashlib
import http.server
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, ResNet50_Weights

from engine.models.build import build, build_on_meta
from engine.models.weights import download, find_weights, load_weights
from presets.errors import CifartuiError
from presets.schema import Backbone, Resnet18, Resnet50

V2_FILE = "resnet50-11ad3fa6.pth"


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch.hub's folder of downloaded weights, empty, and a network that ends at this machine."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "torch" / "hub" / "checkpoints"


def network_of(num_classes: int) -> nn.Module:
    """A ResNet-50 without the second that drawing its weights takes."""
    network = build_on_meta(Resnet50(), num_classes, 32).to_empty(device="cpu")
    for tensor in network.state_dict().values():
        tensor.fill_(7)
    return network


def state_of(num_classes: int, fill: float = 0.25) -> dict[str, Tensor]:
    """A ResNet-50 state dict in which every tensor repeats one stored number, so that its file is small."""
    shapes = build_on_meta(Resnet50(), num_classes, 32).state_dict()
    return {key: torch.tensor(fill).to(tensor.dtype).expand(tensor.shape) for key, tensor in shapes.items()}


def saved(path: Path, content: object) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return str(path)


def test_a_state_dict_file_fills_the_network(tmp_path: Path) -> None:
    network = build(Resnet50(weights=saved(tmp_path / "w.pt", state_of(5))), 5, 32)
    assert all(bool((parameter == 0.25).all()) for parameter in network.parameters())


def test_a_torchvision_name_is_found_in_the_hub_folder(hub: Path) -> None:
    saved(hub / V2_FILE, state_of(1000))
    assert find_weights("IMAGENET1K_V2", ResNet50_Weights) == hub / V2_FILE
    network = network_of(200)
    load_weights(network, "IMAGENET1K_V2", ResNet50_Weights)
    assert bool((network.get_parameter("conv1.weight") == 0.25).all())


def test_the_last_layer_of_another_number_of_classes_is_left_as_it_is(tmp_path: Path) -> None:
    network = network_of(200)
    load_weights(network, saved(tmp_path / "w.pt", state_of(1000)), ResNet50_Weights)
    changed = {key for key, tensor in network.state_dict().items() if not bool((tensor == 7).all())}
    assert changed == set(network.state_dict()) - {"fc.weight", "fc.bias"}


def test_a_file_without_a_last_layer_or_batch_counters_loads(tmp_path: Path) -> None:
    state = {key: value for key, value in state_of(5).items() if "fc." not in key and "num_batches" not in key}
    network = network_of(5)
    load_weights(network, saved(tmp_path / "w.pt", state), ResNet50_Weights)
    assert bool((network.get_parameter("layer4.2.conv3.weight") == 0.25).all())
    assert bool((network.get_parameter("fc.weight") == 7).all())


def test_a_frozen_network_takes_weights_too(tmp_path: Path) -> None:
    network = build(Resnet50(weights=saved(tmp_path / "w.pt", state_of(1000)), frozen=True), 3, 32)
    assert bool((network.get_parameter("conv1.weight") == 0.25).all())
    assert not network.get_parameter("conv1.weight").requires_grad


def test_an_unknown_name_lists_the_names() -> None:
    with pytest.raises(CifartuiError, match=r"IMAGENET1K_V9.*IMAGENET1K_V1, IMAGENET1K_V2.*path"):
        find_weights("IMAGENET1K_V9", ResNet50_Weights)


def test_resnet18_has_names_of_its_own_and_refuses_resnet50s_file(hub: Path, tmp_path: Path) -> None:
    saved(hub / "resnet18-f37072fd.pth", {key: torch.zeros(()) for key in ("conv1.weight",)})
    assert find_weights("IMAGENET1K_V1", ResNet18_Weights) == hub / "resnet18-f37072fd.pth"
    with pytest.raises(CifartuiError, match=r"set model\.weights to one of IMAGENET1K_V1, or"):
        find_weights("IMAGENET1K_V2", ResNet18_Weights)
    with pytest.raises(CifartuiError, match="does not fit ResNet-18"):
        build(Resnet18(weights=saved(tmp_path / "w.pt", state_of(5))), 5, 32)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"layer1.0.conv1.weight": None, "bn1.bias": None},
            ["265 of the network's 267", "2 others", "'bn1.bias', 'layer1.0.conv1.weight'", "random"],
        ),
        ({"layer9.weight": torch.zeros(1)}, ["267 of the network's 267", "1 of the file's", "'layer9.weight'"]),
        ({"conv1.weight": torch.zeros(64, 1, 7, 7)}, ["266 of the network's 267", "1 others", "'conv1.weight'"]),
    ],
)
def test_what_was_not_loaded_is_said_in_numbers(
    tmp_path: Path, change: dict[str, Tensor | None], words: list[str]
) -> None:
    state = {key: value for key, value in (state_of(5) | change).items() if value is not None}
    text = load_weights(network_of(5), saved(tmp_path / "w.pt", state), ResNet50_Weights)
    assert "267" in text
    for word in words:
        assert word in text


def test_the_number_of_classes_that_a_file_has_is_said(tmp_path: Path) -> None:
    text = load_weights(network_of(200), saved(tmp_path / "w.pt", state_of(1000)), ResNet50_Weights)
    assert "265 of the network's 267" in text
    assert "the last layer, which has 1000 classes there, begins with random weights" in text


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict", "state_dict_ema"])
@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "model.",
        "backbone.",
        "_orig_mod.",
        "module._orig_mod.",
        "model.backbone.",
        "model._orig_mod.module.",
    ],
)
def test_weights_are_found_in_what_people_save(tmp_path: Path, wrapper: str, prefix: str) -> None:
    state = {f"{prefix}{key}": value for key, value in state_of(5).items()}
    network = network_of(5)
    content = {wrapper: state, "epoch": 7, "optimizer": {"state": {}}}
    text = load_weights(network, saved(tmp_path / "w.pt", content), ResNet50_Weights)
    assert "267 of the network's 267" in text
    assert all(bool((parameter == 0.25).all()) for parameter in network.parameters())


def test_keys_beside_those_with_a_prefix_do_not_matter(tmp_path: Path) -> None:
    state = {f"model.{key}": value for key, value in state_of(5).items()} | {"criterion.weight": torch.zeros(5)}
    text = load_weights(network_of(5), saved(tmp_path / "w.ckpt", {"state_dict": state}), ResNet50_Weights)
    assert "267 of the network's 267" in text
    assert "1 of the file's have no place in the network ('criterion.weight')" in text


@pytest.mark.parametrize("name", ["net", "weights", "params"])
def test_the_only_state_dict_of_a_checkpoint_is_found_whatever_its_name(tmp_path: Path, name: str) -> None:
    content = {name: state_of(5), "acc": 93.1, "optimizer": {"state": {}, "param_groups": []}}
    assert "267 of the network's 267" in load_weights(network_of(5), saved(tmp_path / "w.pt", content), None)
    content["teacher"] = state_of(5, 0.5)  # which of the two is meant, nobody can tell
    with pytest.raises(CifartuiError, match="is not a state dict"):
        load_weights(network_of(5), saved(tmp_path / "w.pt", content), None)


def test_differences_are_named_as_the_library_and_the_file_name_them(tmp_path: Path) -> None:
    state = {f"encoder.{key}": value for key, value in small_state(5).items()}
    with pytest.raises(CifartuiError) as raised:
        build(Backbone(name="squeezenet1_1", weights=saved(tmp_path / "w.pt", state)), 5, 32)
    assert "it lacks 'features.0.weight', 'features.0.bias'" in str(raised.value)
    assert "and has 'encoder.features.0.weight', 'encoder.features.0.bias'" in str(raised.value)


def test_a_checkpoint_with_a_python_object_says_which(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pt", {"state_dict": state_of(5), "args": argparse.Namespace(lr=1)})
    with pytest.raises(CifartuiError, match=r"\(argparse\.Namespace is one\): save the weights alone"):
        load_weights(network_of(5), path, None)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_safetensors_are_read(tmp_path: Path, name: str) -> None:
    from safetensors.torch import save_file

    path = tmp_path / name
    save_file({key: value.contiguous() for key, value in small_state(5).items()}, path)
    network = build(Backbone(name="squeezenet1_1", weights=str(path)), 5, 32)
    assert all(bool((parameter == 0.25).all()) for parameter in network.parameters())
    path.write_bytes(b"\xff" * 40)
    with pytest.raises(CifartuiError, match="it is damaged"):
        build(Backbone(name="squeezenet1_1", weights=str(path)), 5, 32)


def small_state(num_classes: int) -> dict[str, Tensor]:
    """SqueezeNet's state dict as torchvision has it."""
    import torchvision

    network = torchvision.models.squeezenet1_1(num_classes=num_classes)
    return {key: torch.full_like(value, 0.25) for key, value in network.state_dict().items()}


def test_a_file_from_before_zip_is_read(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(small_state(5), path, _use_new_zipfile_serialization=False)
    network = build(Backbone(name="squeezenet1_1", weights=str(path)), 5, 32)
    assert all(bool((parameter == 0.25).all()) for parameter in network.parameters())


def test_a_backbone_takes_the_weights_of_a_run_and_of_its_library(tmp_path: Path) -> None:
    said: list[str] = []
    model = Backbone(name="squeezenet1_1", weights=saved(tmp_path / "w.pt", small_state(9)), frozen=True)
    network = build(model, 5, 32, said.append)
    assert "50 of the network's 52" in said[0]
    assert "which has 9 classes there" in said[0]
    again = saved(tmp_path / "best.pt", {"network": network.state_dict(), "epoch": 1})
    other = build(Backbone(name="squeezenet1_1", weights=again), 5, 32, said.append)
    assert "52 of the network's 52" in said[1]
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("densenet121", ".norm1.", ".norm.1."),
        ("densenet121", ".conv2.", ".conv.2."),
        ("vit_b_32", "mlp.3.", "mlp.linear_2."),
    ],
)
def test_torchvisions_old_names_are_known(tmp_path: Path, name: str, old: str, new: str) -> None:
    network = build_on_meta(Backbone(name=name), 5, 32)
    names = network.library_names()  # type: ignore[operator]
    shapes = network.state_dict()
    state = {
        library.replace(old, new): torch.zeros(()).expand(shapes[key].shape).to(shapes[key].dtype)
        for library, key in names.items()
    }
    assert any(new in key for key in state)
    filled = network.to_empty(device="cpu")
    wanted = sum(not key.endswith("num_batches_tracked") for key in shapes)
    said = load_weights(filled, saved(tmp_path / "w.pt", state), None, names, name)
    assert f"{wanted} of the network's {wanted}" in said


def test_a_name_as_long_as_a_file_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(b"\x80\x02c" + b"a" * 1_000_000 + b"\nb\n.")
    with pytest.raises(CifartuiError, match="it is damaged"):
        load_weights(network_of(5), str(path), ResNet50_Weights)


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.marker,)


def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    path = saved(tmp_path / "w.pt", {"conv1.weight": Payload(marker)})
    with pytest.raises(CifartuiError, match="Python objects, which are never loaded"):
        load_weights(network_of(5), path, ResNet50_Weights)
    assert not marker.exists()


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = Path(saved(tmp_path / "whole.pt", state_of(5))).read_bytes()
    network = network_of(5)
    for content in (b"", b"hello", whole[: len(whole) // 2], whole[:-30], b"\x80\x02" + b"\x00" * 40):
        path = tmp_path / "damaged.pt"
        path.write_bytes(content)
        with pytest.raises(CifartuiError, match="it is damaged"):
            load_weights(network, str(path), ResNet50_Weights)


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"weights": {}}, {1: torch.zeros(1)}, torch.zeros(2)])
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(CifartuiError, match="is not a state dict"):
        load_weights(network_of(5), saved(tmp_path / "w.pt", content), ResNet50_Weights)


def test_the_best_weights_of_a_run_are_weights(tmp_path: Path) -> None:
    network, state = network_of(5), state_of(5)
    load_weights(network, saved(tmp_path / "best.pt", {"network": state, "epoch": 3}), ResNet50_Weights)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items() if key in state)


@pytest.mark.parametrize(
    ("classes", "rows", "said"),
    [
        ("abcde", [0, 1, 2, 3, 4], "random"),
        ("edcba", [4, 3, 2, 1, 0], "Its classes are matched by name."),
        ("bd", [1, 3], "Its classes are matched by name."),
        ("abcdx", None, "the last layer begins with random weights. Its classes are others"),
    ],
)
def test_the_last_layer_of_a_checkpoint_is_matched_by_class_names(
    tmp_path: Path, classes: str, rows: list[int] | None, said: str
) -> None:
    state, network = state_of(5), network_of(len(classes))
    state["fc.weight"] = torch.arange(5.0)[:, None].repeat(1, state["fc.weight"].shape[1])
    before = network.fc.weight.clone()
    path = saved(tmp_path / "best.pt", {"network": state, "class_names": list("abcde")})
    text = load_weights(network, path, ResNet50_Weights, class_names=tuple(classes))
    assert torch.equal(network.fc.weight, before if rows is None else state["fc.weight"][rows])
    assert (said in text) == (classes != "abcde")


@pytest.fixture
def served() -> Iterator[tuple[str, str]]:
    """A local web server with one file, as the address of its folder and the start of the file's SHA-256."""
    buffer = io.BytesIO()
    torch.save({"conv1.weight": torch.zeros(1)}, buffer)
    content = buffer.getvalue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404 if "absent" in self.path else 200)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", hashlib.sha256(content).hexdigest()[:8]
        server.shutdown()
        thread.join()


def test_a_download_arrives_whole_and_checked(served: tuple[str, str], hub: Path) -> None:
    address, start_of_hash = served
    path = hub / f"net-{start_of_hash}.pth"
    download(f"{address}/{path.name}", path)
    assert list(torch.load(path, weights_only=True)) == ["conv1.weight"]
    assert [file.name for file in hub.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["net-00000000.pth", "absent-00000000.pth"])
def test_a_wrong_or_absent_file_leaves_nothing_behind(served: tuple[str, str], hub: Path, name: str) -> None:
    with pytest.raises(CifartuiError, match="Could not fetch"):
        download(f"{served[0]}/{name}", hub / name)
    assert list(hub.iterdir()) == []


def test_offline_the_sentence_says_what_to_download_and_where_to_put_it(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HTTPS_PROXY", "https_proxy"):  # nothing listens on port 9: as good as no network
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    with pytest.raises(CifartuiError) as caught:
        find_weights("IMAGENET1K_V2", ResNet50_Weights)
    message = str(caught.value)
    assert message.startswith("Could not fetch the pretrained weights (the server cannot be reached). Where there is a")
    assert ResNet50_Weights.IMAGENET1K_V2.url in message
    assert f"put the file {V2_FILE} into {hub}" in message
