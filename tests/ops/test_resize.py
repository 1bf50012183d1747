import torch

from densevit.ops.resize import resize_table


def test_a_table_of_the_same_grid_stays_itself_and_a_linear_ramp_stays_linear():
    rows = torch.arange(4.0)[:, None].expand(4, 6)
    table = rows.reshape(1, 24, 1)
    assert resize_table(table, (4, 6), (4, 6)) is table
    doubled = resize_table(table, (4, 6), (8, 6)).view(8, 6)
    torch.testing.assert_close(doubled[1:-1, 0].diff(), torch.full((5,), 0.5))
    assert (doubled == doubled[:, :1]).all()
