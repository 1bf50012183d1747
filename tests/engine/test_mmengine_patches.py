"""Each fix of MMEngine does something: what it fixes fails without it, in a process where nothing is patched."""

import functools
import http.server
import os
import subprocess
import sys
import threading
import types

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer

from densevit import _installed
from densevit.engine.dump_config import config_text
from densevit.engine.mmengine_patches import patch_config, patch_runtime
from densevit.errors import CheckpointError

# the fixes are for MMEngine's last release; a fork of it may have its own
PATCHED_ELSEWHERE = not _installed("mmengine")


def python(code: str, root) -> subprocess.CompletedProcess:
    """Run code in a fresh process."""
    env = dict(os.environ, PYTHONPATH=str(root), OMP_NUM_THREADS="1")
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)


def without_and_with(code: str, root, fix: str) -> tuple[bool, str, bool, str]:
    bare = python(code, root)
    patched = python(f"from densevit.engine.mmengine_patches import {fix}; {fix}()\n{code}", root)
    return bare.returncode == 0, bare.stderr, patched.returncode == 0, patched.stderr


def test_config_files_may_import_the_standard_library(tmp_path, root):
    path = tmp_path / "a.py"
    path.write_text("import os\nfrom collections import OrderedDict\nimport json.decoder\nlr = float(os.sep == '/')\n")
    code = f"from mmengine.config import Config; assert Config.fromfile({str(path)!r}).lr == 1.0"
    bare, _, patched, error = without_and_with(code, root, "patch_config")
    assert patched, error
    assert PATCHED_ELSEWHERE or not bare, "MMEngine manages alone here: the fix can go"


def test_a_config_still_names_third_party_modules_as_before(tmp_path, root):
    path = tmp_path / "a.py"
    path.write_text("from torch.optim import AdamW\noptimizer = dict(type=AdamW)\n")
    code = f"from mmengine.config import Config; assert Config._is_lazy_import({str(path)!r})"
    assert (
        python(f"from densevit.engine.mmengine_patches import patch_config; patch_config()\n{code}", root).returncode
        == 0
    )


SETTINGS = {
    "a": {"b.c": 1, "d": {"e": [1, (2,), {"f": None}]}, 3: True},
    "note": 'it\'s "quoted"\n\\',
    "numbers": [float("inf"), float("-inf"), 1e-4, -0.0, 10**20],
    "empty": {"x": {}, "y": [], "z": ()},
    "long": [dict(type="LoadImage", number=i, names=("first", "second")) for i in range(9)],
}


def test_a_dumped_config_is_python_that_gives_the_same_config(tmp_path):
    patch_config()
    text = Config(SETTINGS).pretty_text
    found: dict = {}
    exec(text, found)
    assert {key: found[key] for key in SETTINGS} == SETTINGS
    assert all(len(line) <= 112 for line in text.splitlines())
    assert 'float("nan")' in config_text({"x": float("nan")})


def test_mmengines_own_dump_fails_where_ours_works(root):
    """MMEngine writes `inf`, which Python cannot read."""
    code = "from mmengine.config import Config; t = Config(dict(a=[float('inf')])).pretty_text; exec(t, {})"
    bare, _, patched, error = without_and_with(code, root, "patch_config")
    assert patched, error
    assert PATCHED_ELSEWHERE or not bare


def test_installed_packages_are_found_without_pkg_resources(root):
    code = (
        "import sys; sys.modules['pkg_resources'] = None\n"
        "from mmengine.utils import is_installed, get_installed_path\n"
        "from mmengine.config import config\n"
        "assert is_installed('numpy') and config.is_installed('mmcv') and not is_installed('no_such_package')\n"
        "assert get_installed_path('PyYAML').endswith('yaml') and get_installed_path('torch').endswith('torch')"
    )
    bare, _, patched, error = without_and_with(code, root, "patch_config")
    assert patched, error
    assert PATCHED_ELSEWHERE or not bare


def test_norms_are_distinguished_without_pkgutil_find_loader(root):
    """Python 3.14 has no pkgutil.find_loader, which MMEngine asks at every module of a model."""
    code = (
        "import pkgutil\n"
        "if hasattr(pkgutil, 'find_loader'): del pkgutil.find_loader\n"
        "from mmengine.utils.dl_utils import mmcv_full_available; assert mmcv_full_available() in (True, False)"
    )
    bare, _, patched, error = without_and_with(code, root, "patch_runtime")
    assert patched, error
    assert PATCHED_ELSEWHERE or not bare


@pytest.fixture(scope="module")
def own_checkpoint(tmp_path_factory):
    """As MMEngine itself writes them."""
    buffer = HistoryBuffer()
    buffer.update(1.0)
    path = tmp_path_factory.mktemp("files") / "epoch_1.pth"
    hub, meta = {"loss": buffer}, {"x": np.float64(1)}
    torch.save({"state_dict": {"a": torch.ones(1)}, "message_hub": hub, "meta": meta}, path)
    return path


def test_mmengine_reads_its_own_checkpoints(own_checkpoint, root):
    code = f"from mmengine.runner import CheckpointLoader; CheckpointLoader.load_checkpoint({str(own_checkpoint)!r})"
    bare, _, patched, error = without_and_with(code, root, "patch_runtime")
    assert patched, error
    assert PATCHED_ELSEWHERE or not bare, "MMEngine reads them alone here"


class Command:
    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def evil(tmp_path):
    """A file whose reading would write another, and that other."""
    torch.save({"state_dict": {}, "x": Command(tmp_path / "ran")}, tmp_path / "evil.pth")
    return tmp_path / "evil.pth", tmp_path / "ran"


@pytest.fixture
def served(tmp_path):
    """The folder by http."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_every_scheme_reads_without_running_anything(evil, served, tmp_path, monkeypatch, own_checkpoint):
    patch_runtime()
    import mmengine.runner.checkpoint as checkpoint
    from mmengine.runner import CheckpointLoader

    path, ran = evil
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    with pytest.raises(CheckpointError, match="refused"):
        CheckpointLoader.load_checkpoint(str(path))
    with pytest.raises(CheckpointError, match="refused"):
        CheckpointLoader.load_checkpoint(f"{served}/evil.pth")
    (tmp_path / "good.pth").write_bytes(own_checkpoint.read_bytes())
    assert CheckpointLoader.load_checkpoint(f"{served}/good.pth")["message_hub"]["loss"].mean() == 1.0
    # the names of model zoos end at http
    monkeypatch.setattr(checkpoint, "get_external_models", lambda: {"evil": f"{served}/evil.pth"})
    with pytest.raises(CheckpointError, match="refused"):
        CheckpointLoader.load_checkpoint("open-mmlab://evil")
    monkeypatch.setattr(checkpoint, "get_torchvision_models", lambda: {"evil": f"{served}/evil.pth"})
    with pytest.raises(CheckpointError, match="refused"):
        CheckpointLoader.load_checkpoint("torchvision://evil")
    # storage that hands over bytes
    backend = types.SimpleNamespace(get=lambda _: path.read_bytes())
    monkeypatch.setattr(checkpoint, "get_file_backend", lambda *_, **__: backend)
    with pytest.raises(Exception, match=r"GLOBAL|Weights only load failed"):
        CheckpointLoader.load_checkpoint("s3://bucket/evil.pth")
    assert not ran.exists()


def test_a_full_disk_under_the_log_does_not_end_a_training(tmp_path):
    patch_runtime()
    from mmengine.visualization import LocalVisBackend

    back_end = LocalVisBackend(str(tmp_path / "log"))
    back_end._init_env()
    back_end._scalar_save_path = "/dev/full"
    back_end.add_scalar("loss", 1.0, 1)
    with pytest.raises(OSError), open("/dev/full", "a") as file:
        file.write("x")


def test_importing_densevit_and_its_configs_imports_no_torch(root):
    code = (
        "import sys, densevit, densevit.errors, densevit.engine.config\n"
        "assert densevit.__version__ and densevit.config_path\n"
        "assert 'torch' not in sys.modules"
    )
    done = python(code, root)
    assert done.returncode == 0, done.stderr


def test_two_owners_of_one_package_are_warned_of(root, tmp_path):
    """pip overwrites the files of one with the other's and says nothing."""
    for name in ("mmengine-0.10.7", "onedl_mmengine-0.10.12", "mmcv_lite-2.2", "mmcv_full-1.7"):
        folder = tmp_path / f"{name}.dist-info"
        folder.mkdir()
        distribution, version = name.replace("_", "-").rsplit("-", 1)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    found = python(f"import sys; sys.path.append({str(tmp_path)!r}); import densevit", root).stderr
    assert "mmengine and onedl-mmengine are both installed" in found
    assert "mmcv-lite and mmcv-full" in found
    assert "both installed" not in python("import densevit", root).stderr
