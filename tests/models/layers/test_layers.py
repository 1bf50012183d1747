import torch

from densevit.kernels.attention import attention
from densevit.models.layers.drop_path import DropPath, drop_path_rates
from densevit.models.layers.tokens import to_map, to_tokens


def test_attention_equals_its_formula_in_both_precisions():
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 8) for n in (5, 7, 7))
    mask = torch.randn(1, 3, 5, 7)
    want = torch.softmax(q @ k.transpose(-2, -1) / 8**0.5 + mask, -1) @ v
    torch.testing.assert_close(attention(q, k, v, mask), want)
    rough = attention(*(x.bfloat16() for x in (q, k, v, mask)))
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), want, atol=0.05, rtol=0.05)


def test_tokens_and_maps_are_views_of_each_other():
    tokens = torch.rand(2, 12, 5)
    image = to_map(tokens, (3, 4))
    assert image.data_ptr() == tokens.data_ptr()
    assert image.is_contiguous(memory_format=torch.channels_last)
    assert image[1, 2, 1, 3] == tokens[1, 1 * 4 + 3, 2]
    torch.testing.assert_close(to_tokens(image), tokens)


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    layer = DropPath(0.25).train()
    out = layer(torch.ones(20_000, 2, 3))
    assert set(out.flatten(1).std(1).tolist()) == {0.0}
    assert abs(float(out.mean()) - 1) < 0.02
    assert (layer.eval()(torch.ones(3, 2)) == 1).all()
    torch.testing.assert_close(torch.tensor(drop_path_rates(0.3, 4)), torch.linspace(0, 0.3, 4))
