"""The random choice of boxes that a training step looks at."""

import pytest
import torch

from densevit.ops.sampling import sample_matches


def matched(positive: int, background: int, ignored: int = 7) -> torch.Tensor:
    index = torch.cat((torch.arange(positive), torch.full((background,), -1), torch.full((ignored,), -2)))
    return index[torch.randperm(len(index), generator=torch.Generator().manual_seed(0))]


@pytest.mark.parametrize(
    ("positive", "background", "wanted"),
    [
        (100, 1000, (16, 48)),  # enough of both
        (5, 1000, (5, 59)),  # background takes the location of missing positives
        (100, 20, (16, 20)),  # positives do not take that of missing background
        (0, 1000, (0, 64)),
        (3, 0, (3, 0)),
        (0, 0, (0, 0)),
    ],
)
def test_at_most_the_share_of_positives_and_background_up_to_the_number(positive, background, wanted):
    index = matched(positive, background)
    drawn = sample_matches(index, num=64, pos_fraction=0.25)
    assert (int((drawn & (index >= 0)).sum()), int((drawn & (index == -1)).sum())) == wanted
    assert not (drawn & (index == -2)).any()


def test_a_number_beyond_all_keeps_all_that_count():
    index = matched(30, 40)
    assert torch.equal(sample_matches(index, 100_000, 0.5), index > -2)
    assert len(sample_matches(index[:0], 512, 0.25)) == 0


def test_every_box_of_a_kind_is_drawn_as_often():
    torch.manual_seed(0)
    index = matched(20, 60, ignored=0)
    counts = sum(sample_matches(index, 16, 0.25).long() for _ in range(4000))
    assert (counts[index >= 0] / 4000).sub(4 / 20).abs().max() < 0.03
    assert (counts[index < 0] / 4000).sub(12 / 60).abs().max() < 0.03
