"""Pretrained weights: fetched once, checked, and an honest sentence where they are not to be had."""

import hashlib
import http.server
import io
import threading

import pytest
import torch

from densevit.checkpoints.pretrained import cached_path, file_sha256, resolve
from densevit.errors import CheckpointError
from densevit.registry import MODELS, WEIGHT_INITIALIZERS

SIZES = dict(
    embed_dims=[8, 16, 40, 64],
    depths=[1, 1, 1, 1],
    num_heads=[1, 2, 5, 8],
    mlp_ratios=[2] * 4,
    sr_ratios=[8, 4, 2, 1],
    linear=False,
)


def weights(number: float) -> bytes:
    file = io.BytesIO()
    torch.save({"a": torch.full((4,), number)}, file)
    return file.getvalue()


WEIGHTS = weights(1.0)
V2 = dict(type="PVTv2", arch=SIZES)
NOWHERE = "http://127.0.0.1:9/releases/pvt.pth"  # the discard port: nobody listens


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DENSEVIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server():
    """A web server of two files; `server.hits` counts the requests, `server.short` announces more than it sends."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found.hits += 1
            if self.path not in found.files:
                return self.send_error(404)
            self.send_response(200)
            if found.short is not None:
                self.send_header("Content-Length", str(len(found.files[self.path]) + found.short))
            self.end_headers()
            self.wfile.write(found.files[self.path])

        def log_message(self, *_):
            pass

    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.files, found.hits, found.short = {"/v2/weights.pth": WEIGHTS}, 0, 0
    found.url = f"http://127.0.0.1:{found.server_port}/v2/weights.pth"
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()


def leftovers(cache) -> list[str]:
    return [path.name for path in cache.rglob("*") if path.is_file()]


def test_a_url_is_fetched_once_and_then_found_without_a_network(server):
    path = resolve(dict(checkpoint=server.url))
    assert path.read_bytes() == WEIGHTS
    assert path == cached_path(server.url)
    server.shutdown()
    assert resolve(dict(checkpoint=server.url)) == path
    assert server.hits == 1


def test_files_of_equal_name_do_not_meet_in_the_cache():
    assert cached_path("https://a.org/v1/x.pth") != cached_path("https://a.org/v2/x.pth")
    assert ".." not in cached_path("https://a.org/../../x.pth").parts


def test_a_wrong_checksum_is_refused_and_the_file_thrown_away(server, cache):
    with pytest.raises(CheckpointError, match="SHA-256"):
        resolve(dict(checkpoint=server.url, sha256="0" * 64))
    assert leftovers(cache) == []
    right = hashlib.sha256(WEIGHTS).hexdigest()
    assert resolve(dict(checkpoint=server.url, sha256=right)).is_file()


def test_the_checksum_of_the_first_fetch_is_kept_and_checked(server):
    path = resolve(dict(checkpoint=server.url))
    path.write_bytes(weights(2.0))
    assert resolve(dict(checkpoint=server.url)).read_bytes() == WEIGHTS
    assert server.hits == 2


PAGE = b"<html><body>Please log in</body></html>"


@pytest.mark.parametrize(
    "answer", [PAGE, b"", b'{"error": "denied"}', WEIGHTS[:-30], b"\x80" + PAGE, b"PK\x03\x04" + PAGE]
)
@pytest.mark.parametrize("announced", [0, None])
def test_what_is_no_file_of_weights_is_neither_kept_nor_pinned(server, cache, answer, announced):
    server.files["/v2/weights.pth"], server.short = answer, announced
    with pytest.raises(CheckpointError, match="thrown away") as caught:
        resolve(dict(checkpoint=server.url))
    assert server.url in str(caught.value) and leftovers(cache) == []
    server.files["/v2/weights.pth"] = WEIGHTS
    assert resolve(dict(checkpoint=server.url)).read_bytes() == WEIGHTS


def test_a_page_that_an_older_version_kept_is_fetched_again(server):
    path = cached_path(server.url)
    path.parent.mkdir(parents=True)
    path.write_bytes(PAGE)
    path.with_name(path.name + ".sha256").write_text(hashlib.sha256(PAGE).hexdigest() + "\n")
    assert resolve(dict(checkpoint=server.url)).read_bytes() == WEIGHTS


def test_the_url_may_state_the_first_digits_of_the_checksum(server, cache):
    right = hashlib.sha256(WEIGHTS).hexdigest()[:8]
    wrong = "0badc0de"
    for name in (right, wrong, "20220308"):  # a date is no checksum
        server.files[f"/net-{name}.pth"] = WEIGHTS
    base = server.url.removesuffix("/v2/weights.pth")
    if not right.isdigit():
        assert resolve(dict(checkpoint=f"{base}/net-{right}.pth")).is_file()
    assert resolve(dict(checkpoint=f"{base}/net-20220308.pth")).is_file()
    with pytest.raises(CheckpointError, match=wrong):
        resolve(dict(checkpoint=f"{base}/net-{wrong}.pth"))
    full = hashlib.sha256(WEIGHTS).hexdigest()
    assert resolve(dict(checkpoint=f"{base}/net-{wrong}.pth", sha256=full)).is_file()


def test_md5_and_first_digits_are_checked_as_well(server, tmp_path):
    digits = hashlib.md5(WEIGHTS).hexdigest()
    assert resolve(dict(checkpoint=server.url, md5=digits[:6])).is_file()
    (tmp_path / "a.pth").write_bytes(WEIGHTS)
    for wrong in (dict(md5="000000"), dict(sha256="00000000")):
        with pytest.raises(CheckpointError, match="another file"):
            resolve(dict(checkpoint=str(tmp_path / "a.pth"), **wrong))


def test_a_broken_connection_leaves_nothing_behind(server, cache):
    server.short = 5
    with pytest.raises(CheckpointError, match="neither on this machine"):
        resolve(dict(checkpoint=server.url))
    assert leftovers(cache) == []


def test_no_network_and_no_file_is_one_sentence_with_the_ways_on(cache):
    with pytest.raises(CheckpointError) as caught:
        resolve(dict(checkpoint=NOWHERE))
    text = str(caught.value)
    assert NOWHERE in text
    assert "neither on this machine" in text
    assert "network" in text
    assert "--pretrained FILE" in text
    assert "--pretrained none" in text
    assert "\n" not in text
    assert leftovers(cache) == []


def test_a_missing_page_is_not_called_a_missing_network(server):
    with pytest.raises(CheckpointError, match="404"):
        resolve(dict(checkpoint=server.url + ".gone"))


def test_a_local_file_is_taken_as_it_is(tmp_path):
    path = tmp_path / "mine.pth"
    path.write_bytes(b"x")
    assert resolve(dict(checkpoint=str(path))) == path
    assert resolve(dict(checkpoint=str(path), sha256=file_sha256(path))) == path
    with pytest.raises(CheckpointError, match="another file"):
        resolve(dict(checkpoint=str(path), sha256="0" * 64))
    with pytest.raises(CheckpointError, match=r"no file of pretrained weights .*gone\.pth"):
        resolve(dict(checkpoint=str(tmp_path / "gone.pth")))


def test_init_cfg_loads_strictly_in_densevits_scope(tmp_path):
    given, model = MODELS.build(V2), MODELS.build(V2)
    state = {k: torch.randn_like(v) for k, v in given.state_dict().items()}
    torch.save({**state, "head.weight": torch.zeros(10, 64), "head.bias": torch.zeros(10)}, tmp_path / "a.pth")
    WEIGHT_INITIALIZERS.build(dict(type="Pretrained", checkpoint=str(tmp_path / "a.pth")))(model)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())

    del state["norm4.bias"]
    torch.save(state, tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match=r"norm4\.bias"):
        WEIGHT_INITIALIZERS.build(dict(type="Pretrained", checkpoint=str(tmp_path / "b.pth")))(model)
