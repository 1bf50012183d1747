import pytest
import torch
import torch.nn.functional as F

from densevit.ops.resize import resize_kernel, resize_table


def test_a_table_of_the_same_grid_stays_itself_and_a_linear_ramp_stays_linear():
    rows = torch.arange(4.0)[:, None].expand(4, 6)
    table = rows.reshape(1, 24, 1)
    assert resize_table(table, (4, 6), (4, 6)) is table
    doubled = resize_table(table, (4, 6), (8, 6)).view(8, 6)
    torch.testing.assert_close(doubled[1:-1, 0].diff(), torch.full((5,), 0.5))
    assert (doubled == doubled[:, :1]).all()


@pytest.mark.parametrize(("old", "new"), [((14, 14), (16, 16)), ((16, 16), (8, 8)), ((8, 8), (12, 20))])
def test_a_patchs_kernel_is_resized_as_timm_does(old, new):
    resample = pytest.importorskip("timm.layers").resample_patch_embed
    kernel = torch.randn(5, 3, *old, generator=torch.Generator().manual_seed(0))
    got, want = resize_kernel(kernel, new), resample(kernel, list(new))
    assert (got - want).abs().max() <= 1e-5 * want.abs().max()
    assert resize_kernel(kernel.half(), new).dtype == torch.half


def test_an_enlarged_kernel_sees_in_an_enlarged_patch_what_the_old_one_saw():
    torch.manual_seed(0)
    kernel, patch = torch.randn(5, 3, 6, 6), torch.randn(2, 3, 6, 6)
    larger = F.interpolate(patch, (9, 8), mode="bicubic", antialias=True)
    torch.testing.assert_close(
        F.conv2d(larger, resize_kernel(kernel, (9, 8))), F.conv2d(patch, kernel), rtol=1e-4, atol=1e-4
    )
