"""The order of the images: what every process sees, and beginning in the middle."""

import pytest
from torch.utils.data import BatchSampler, DataLoader

from densevit.engine.data_loader import build_dataloader
from densevit.engine.sampler import EvalSampler, ResumableBatchSampler, TrainSampler, interleaved
from densevit.errors import ConfigError


class Seeded:
    """A dataset whose items depend on (seed, epoch, index)."""

    seed = 0

    def __init__(self, length: int) -> None:
        self.length, self.asked = length, []

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key):
        self.asked.append(key)
        return key


def test_an_epoch_shows_every_image_once_in_another_order_each_time():
    sampler = TrainSampler(Seeded(50), seed=7)
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        pairs = list(sampler)
        assert {e for _, e in pairs} == {epoch}
        orders.append([index for index, _ in pairs])
        assert sorted(orders[-1]) == list(range(50))
    assert orders[0] != orders[1] != orders[2]
    sampler.set_epoch(1)
    assert [index for index, _ in sampler] == orders[1]


def test_seed_and_epoch_are_not_interchangeable():
    def order(seed, epoch):
        sampler = TrainSampler(range(50), seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(1, 2) != order(2, 1) and order(1, 2) != order(3, 0)


def test_a_dataset_without_seed_is_asked_for_indices():
    assert list(TrainSampler(range(3), shuffle=False)) == [0, 1, 2]


@pytest.mark.parametrize("length", [1, 7, 8, 9])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_the_processes_first_batches_are_together_the_first_of_one_process(length, world_size):
    parts = [interleaved(list(range(length)), rank, world_size) for rank in range(world_size)]
    assert len({len(part) for part in parts}) == 1, "every process has the same number of images"
    dealt = [index for turn in zip(*parts, strict=True) for index in turn]
    assert dealt[:length] == list(range(length))
    assert len(dealt) - length < world_size


def test_evaluation_goes_in_order():
    assert list(EvalSampler(range(5))) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("workers", [0, 2])
def test_skipped_batches_are_not_loaded(workers):
    dataset = Seeded(10)
    batches = ResumableBatchSampler(BatchSampler(TrainSampler(dataset, shuffle=False), 3, drop_last=False))
    loader = DataLoader(dataset, batch_sampler=batches, num_workers=workers, collate_fn=list)
    whole = list(loader)
    dataset.asked.clear()
    batches.skip = 2
    assert list(loader) == whole[2:] == [[(6, 0), (7, 0), (8, 0)], [(9, 0)]]
    assert len(loader) == 4, "the length of an epoch does not depend on where it is taken up"
    if not workers:
        assert dataset.asked == [(i, 0) for i in range(6, 10)]


def test_a_loader_without_a_sampler_is_reported_what_it_lacks():
    with pytest.raises(ConfigError, match="TrainSampler"):
        build_dataloader(dict(dataset=Seeded(4), batch_size=2))
