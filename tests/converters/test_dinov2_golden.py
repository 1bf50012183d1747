"""A trained DINOv2 ViT-S/14 through our loader reaches the features that transformers computed from it."""

from pathlib import Path

import numpy as np
import pytest
import torch

import densevit

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def backbone(dinov2_folder):
    return densevit.import_model(dinov2_folder).model


def photo(shared: Path, case: str) -> torch.Tensor:
    """The photo's part of a case, normalized: (1, 3, H, W)."""
    from PIL import Image

    image = np.asarray(Image.open(shared / "data" / "photos" / "astronaut.png").convert("RGB"))
    image = {
        "native_518": lambda x: np.pad(x, ((3, 3), (3, 3), (0, 0)), "edge"),
        "square_224": lambda x: x[0:224, 150:374],
        "wide_280x420": lambda x: x[20:300, 60:480],
        "tall_392x238": lambda x: x[100:492, 130:368],
    }[case](image)
    return torch.from_numpy(((image / 255 - MEAN) / STD).astype(np.float32)).permute(2, 0, 1)[None]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["native_518", "square_224", "wide_280x420", "tall_392x238"])
def test_features_of_trained_weights_equal_transformers(backbone, shared, case):
    stored = np.load(shared / "data" / "weights" / "dinov2_small_golden.npz")
    image, after = photo(shared, case), {}
    hooks = [
        block.register_forward_hook(lambda _, __, out, i=i: after.update({f"after_layer_{i + 1}": out}))
        for i, block in enumerate(backbone.blocks)
    ]
    with torch.no_grad():
        (last,), (embeddings, size) = backbone(image), backbone.embed(image)
        hidden = backbone.norm(after["after_layer_12"])
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(last, hidden[:, 1:].transpose(1, 2).unflatten(2, size))
    found = {"embeddings": embeddings, "last_hidden_state": hidden, **after}
    locations = [0, *stored[f"{case}.tokens"]]  # the class token first
    compared = 0
    for key in stored.files:
        name = key.removeprefix(f"{case}.")
        if key == name or name == "tokens":
            continue
        got = hidden[0].norm(dim=-1) if name == "last_hidden_state_norms" else found[name][0, locations]
        want = torch.from_numpy(stored[key]).reshape(got.shape)
        assert (got - want).abs().max() <= 1e-4 * want.abs().max(), name
        compared += 1
    assert compared == 7
