import tiny
import torch

from densevit.models.preprocessor import Preprocessor


def test_images_are_normalized_in_rgb_and_padded_with_zeros_afterwards():
    image = torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8)
    data = Preprocessor(size_divisor=4)(dict(inputs=[image], data_samples=None))
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    want = (image.flip(0).float() - mean[:, None, None]) / std[:, None, None]
    assert data["inputs"].shape == (1, 3, 8, 8)
    torch.testing.assert_close(data["inputs"][0, :, :5, :7], want)
    assert (data["inputs"][0, :, 5:] == 0).all()
    assert (data["inputs"][0, :, :, 7:] == 0).all()
    assert data["inputs"].is_contiguous(memory_format=torch.channels_last)


def test_all_ground_truth_is_padded_alike_and_each_image_knows_its_own_padded_size():
    sizes = [(40, 50), (70, 33)]
    samples = [tiny.sample(size=s) for s in sizes]
    for sample, size in zip(samples, sizes, strict=True):
        sample.gt_semantic = torch.zeros(size, dtype=torch.long)
        sample.gt_depth = torch.ones(size)
        sample.gt_instances.masks = torch.ones(2, *size, dtype=torch.bool)
    data = Preprocessor()(dict(inputs=[torch.zeros(3, *s, dtype=torch.uint8) for s in sizes], data_samples=samples))
    assert [s.pad_shape for s in data["data_samples"]] == [(64, 64), (96, 64)]
    for sample, (h, w) in zip(data["data_samples"], sizes, strict=True):
        assert sample.gt_semantic.shape == sample.gt_depth.shape == sample.gt_instances.masks.shape[1:] == (96, 64)
        assert (sample.gt_semantic == 255).sum() == (sample.gt_depth == 0).sum() == 96 * 64 - h * w
        assert int(sample.gt_instances.masks.sum()) == 2 * h * w


def test_small_crops_fill_the_training_size_and_nothing_else_does():
    preprocessor = Preprocessor(train_size=(96, 160))
    for training, size in ((True, (96, 160)), (False, (64, 64))):
        sample = tiny.sample(size=(40, 50))
        data = dict(inputs=[torch.full((3, 40, 50), 9, dtype=torch.uint8)], data_samples=[sample])
        prepared = preprocessor(data, training)
        assert prepared["inputs"].shape[2:] == prepared["data_samples"][0].gt_semantic.shape == size
        assert prepared["data_samples"][0].batch_input_shape == size
        assert (prepared["inputs"][..., 40:, :] == 0).all() and (sample.gt_semantic[40:] == 255).all()
    large = preprocessor(dict(inputs=[torch.zeros(3, 100, 170, dtype=torch.uint8)]), True)
    assert large["inputs"].shape[2:] == (128, 192)


def test_a_square_is_filled_in_training_and_prediction_and_larger_images_are_not_cut():
    prepare = Preprocessor(size_divisor=16, square_pad=64)
    small, large = torch.zeros(3, 20, 50, dtype=torch.uint8), torch.zeros(3, 20, 70, dtype=torch.uint8)
    for training in (True, False):
        data = prepare(dict(inputs=[small], data_samples=[tiny.sample(size=(20, 50))]), training)
        (sample,) = data["data_samples"]
        assert data["inputs"].shape == (1, 3, 64, 64)
        assert sample.pad_shape == (32, 64) and sample.batch_input_shape == (64, 64)
        assert sample.gt_instances.masks.shape[1:] == (64, 64)
        assert prepare(dict(inputs=[small, large], data_samples=None), training)["inputs"].shape == (2, 3, 64, 80)
