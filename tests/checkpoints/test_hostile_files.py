"""Opening a file of weights runs nothing, fetches nothing and takes no more memory than the file is worth."""

import json
import pickle
import resource
import socket
import struct
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from densevit.checkpoints.reading import read_file
from densevit.converters import import_model
from densevit.errors import CheckpointError, UserError

PARTS = {
    "backbone": "dict(type='PVTv2', arch='b0')",
    "neck": "dict(type='FPN', out_channels=8, num_levels=4)",
    "head": "dict(type='RetinaNetHead', feat_channels=8, num_classes=1)",
}
RUN = "dict(type='subprocess.Popen', args=['touch', MARK])"


def refused(path) -> str:
    with pytest.raises(UserError) as caught:
        import_model(path)
    assert str(caught.value).isprintable()
    return str(caught.value)


def carrying(folder, **parts) -> str:
    text = "model = dict(type='DensePredictor', " + ", ".join(f"{k}={v}" for k, v in {**PARTS, **parts}.items()) + ")"
    path = folder / "carrying.pth"
    torch.save(
        {"meta": {"cfg": text.replace("MARK", repr(str(folder / "ran")))}, "state_dict": {"x": torch.zeros(1)}}, path
    )
    return path


@pytest.mark.parametrize(
    "parts",
    [
        dict(backbone=RUN),
        dict(neck=f"[dict(type='FPN', out_channels=8), {RUN}]"),
        dict(head=f"dict(boxes=dict(type='RetinaNetHead', anything=dict(deep=[(1, {RUN})])))"),
        dict(data_preprocessor=RUN),
        dict(loss_weighting=RUN),
        dict(inference=RUN.replace("subprocess.Popen", "os.system")),
        dict(backbone="dict(type='antigravity')"),
        dict(backbone="dict(type='densevit.models.backbones.pvt.PVTv2', arch='b0')"),
        dict(backbone="dict(type='mmengine.subprocess.Popen')"),
        dict(backbone="dict(type=['PVTv2'], arch='b0')"),
        dict(backbone="dict(type='PVTv2', arch='b0', _scope_='antigravity')"),
        dict(backbone="dict(type='densevit.Pretrained', checkpoint='/etc/passwd')"),
        dict(head="dict(type='RetinaNetHead', url='http://192.0.2.1/x')"),
    ],
)
def test_a_carried_configuration_names_registered_parts_alone(tmp_path, parts):
    assert "carrying.pth: model." in refused(carrying(tmp_path, **parts))
    assert not (tmp_path / "ran").exists()


def test_what_a_carried_configuration_would_initialize_from_is_left_out_at_any_depth(tmp_path):
    init = f"init_cfg=dict(type='subprocess.Popen', args=['touch', MARK], override={RUN})"
    path = carrying(tmp_path, backbone=f"dict(type='PVTv2', arch='b0', {init})", head=PARTS["head"][:-1] + f", {init})")
    assert "holds no tensor of this model" in refused(path)  # it was built
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "given",
    [
        dict(pretrained=True),
        dict(pretrained_cfg_overlay={"url": "x"}),
        dict(pretrained_cfg={"hf_hub_id": "a/b"}),
        dict(checkpoint_path="/etc/passwd"),
    ],
)
def test_timm_fetches_and_opens_nothing(tmp_path, monkeypatch, given):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("it reached for the network"))
    assert "fetches nothing" in refused(
        carrying(tmp_path, backbone=f"dict(type='TimmBackbone', name='test_vit', args={given!r})")
    )
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "vit_tiny_patch16_224", "model_args": given}))
    save_file({"x": torch.zeros(1)}, str(tmp_path / "model.safetensors"))
    assert "fetches nothing" in refused(tmp_path)


ARCH = (
    "dict(embed_dims=[{}] * 4, depths=[{}] * 4, num_heads=[1] * 4, mlp_ratios=[2] * 4, sr_ratios=[1] * 4, linear=False)"
)


@pytest.mark.parametrize(
    "parts",
    [
        dict(backbone=f"dict(type='PVTv2', arch={ARCH.format(1_000_000, 1)})"),
        dict(backbone=f"dict(type='PVTv2', arch={ARCH.format(8, 1_000_000_000)})"),
        dict(backbone="dict(type='ViT', arch='base', img_size=1000000)"),
        dict(backbone="dict(type='TimmBackbone', name='test_vit', args=dict(embed_dim=1000000))"),
        dict(neck="dict(type='FPN', out_channels=1000000, num_levels=4)"),
        dict(neck="dict(type='FPN', out_channels=8, num_levels=1000000)"),
        dict(head="dict(type='RetinaNetHead', feat_channels=8, num_classes=1000000)"),
        dict(head="dict(type='RetinaNetHead', feat_channels=8, num_classes=1, stacked_convs=1000000)"),
        dict(head="dict(type='RetinaNetHead', feat_channels=-8, num_classes=1)"),
    ],
)
def test_a_small_file_makes_no_large_model(tmp_path, parts):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "carrying.pth" in refused(carrying(tmp_path, **parts))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # kB


def test_values_that_a_part_does_not_take_are_one_sentence(tmp_path):
    assert "cannot be built" in refused(carrying(tmp_path, backbone="dict(type='PVTv2', arch='b0', no_such=1)"))


@pytest.mark.parametrize(
    "text",
    [
        "a0 = 'x' * 100000\n" + "".join(f"a{i} = a{i - 1} + a{i - 1}\n" for i in range(1, 30)) + "model = dict(a=a29)",
        "a0 = (1,)\n" + "".join(f"a{i} = (a{i - 1},) * 1000\n" for i in range(1, 30)) + "model = dict(a=a29)",
        "a0 = 7\n" + "".join(f"a{i} = dict(l=a{i - 1}, r=[a{i - 1}])\n" for i in range(1, 40)) + "model = a39",
        "a0 = 7\n" + "".join(f"a{i} = a{i - 1}\n" for i in range(1, 3000)) + "model = dict(a=a2999)",
        "model = dict(a=0x" + "F" * 100_000 + ")",
        "model = dict(a=" + "9" * 100_000 + ")",
        "model = dict(a=" + "+".join("1" * 50_000) + ")",
        "model = dict(a=" + "-" * 100_000 + "1)",
        "x = '" + "a" * (2 << 20) + "'\nmodel = dict()",
    ],
)
def test_configuration_text_that_grows_is_refused(tmp_path, text):
    torch.save({"meta": {"cfg": text}, "state_dict": {"x": torch.zeros(1)}}, tmp_path / "bomb.pth")
    assert "bomb.pth" in refused(tmp_path / "bomb.pth")


# ---- sizes that a file states --------------------------------------------------------------------------


class Rebuilt:
    """Pickled, it is `function` called with `arguments`."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def unread(path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_file(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_deflated_file_is_not_inflated_beyond_its_worth(tmp_path):
    torch.save({"a": torch.ones(4)}, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as whole, zipfile.ZipFile(tmp_path / "b.pth", "w") as bomb:
        for name in whole.namelist():
            bomb.writestr(name, whole.read(name), zipfile.ZIP_DEFLATED)
    assert read_file(tmp_path / "b.pth")["a"].tolist() == [1.0] * 4  # an honest one is read
    with zipfile.ZipFile(tmp_path / "b.pth", "a") as bomb, bomb.open(_deflated("a/data/1"), "w") as part:
        for _ in range(300):
            part.write(bytes(1 << 20))
    assert "bytes of memory" in unread(tmp_path / "b.pth")


def _deflated(name) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


@pytest.mark.parametrize("stride", [(1,), (0,)])
def test_a_tensor_larger_than_what_is_stored_of_it(tmp_path, stride):
    part = Rebuilt(torch._utils._rebuild_tensor_v2, torch.ones(4).storage(), 0, (10**10,), stride, False, {})
    torch.save({"a": part}, tmp_path / "a.pth")
    unread(tmp_path / "a.pth")


@pytest.mark.parametrize(
    "part",
    [
        Rebuilt(bytearray, 10**11),
        Rebuilt(torch._utils._rebuild_meta_tensor_no_storage, torch.float32, (10**10,), (1,), False),
        Rebuilt(np.ndarray, (10**6, 10**6)),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_memory_by_a_number_in_a_pickle(tmp_path, part, zipped):
    torch.save({"a": part}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    unread(tmp_path / "a.pth")


@pytest.mark.parametrize("bare", [True, False])
def test_parts_that_refer_to_each_other_again_and_again(tmp_path, bare):
    content: list = [0]
    for _ in range(60):
        content = [content, content]
    whole = {"state_dict": {"a": np.zeros(1, np.float32) if bare else torch.zeros(1)}, "meta": content}
    if bare:
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(whole))
    else:
        torch.save(whole, tmp_path / "a.pkl")
    assert "bytes of memory" in unread(tmp_path / "a.pkl")
    ring: list = []
    ring.append(ring)
    torch.save({"meta": ring}, tmp_path / "b.pth")
    assert "holds itself" in unread(tmp_path / "b.pth")


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02N" + b"r" + struct.pack("<I", (1 << 32) - 1) + b".",  # a memo of four thousand million
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"abc.",
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"abc.",
        b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"abc.",
        b"\x80\x02" + b"(" * 100_000 + b"l" * 100_000 + b".",
    ],
)
def test_numbers_that_a_bare_pickle_states(tmp_path, content):
    (tmp_path / "a.pkl").write_bytes(content)
    unread(tmp_path / "a.pkl")


def test_headers_of_safetensors(tmp_path):
    def write(header, data=b"\0" * 16, length=None) -> None:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        (tmp_path / "a.safetensors").write_bytes(
            struct.pack("<Q", len(text) if length is None else length) + text + data
        )

    def entry(*offsets, shape=(4,)):
        return {"dtype": "F32", "shape": list(shape), "data_offsets": list(offsets)}

    write({"a": entry(0, 16)})
    assert read_file(tmp_path / "a.safetensors")["a"].shape == (4,)
    for header in (
        {"a": entry(0, 16), "b": entry(0, 16)},
        {"a": entry(-16, 0)},
        {"a": entry(0, 1 << 60, shape=(1 << 58,))},
        {"a": entry(0, 16, shape=(1 << 32, 1 << 32))},
        b'{"a":' * 100_000,
        {"__metadata__": {"densevit": "[" * 100_000}, "a": entry(0, 16)},
    ):
        write(header)
        unread(tmp_path / "a.safetensors")
    for length in (1 << 62, (1 << 64) - 1, 90 << 20):
        write({"a": entry(0, 16)}, length=length)
        assert "header" in unread(tmp_path / "a.safetensors")


def test_every_damaged_byte_of_a_tensor_is_noticed_by_every_reader(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"a": torch.arange(100.0)}, path)
    content = bytearray(path.read_bytes())
    start = content.index(torch.arange(100.0).numpy().tobytes())
    for location in range(start, start + 400, 37):
        damaged = bytearray(content)
        damaged[location] ^= 1
        path.write_bytes(damaged)
        assert "checksum" in unread(path)
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.arange(100.0)}, path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert len(read_file(path)["a"]) == 100  # torch was asked to write no checksums
