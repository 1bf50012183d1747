"""The commands, as a user types them."""

import json
import os
import subprocess
import sys
import time

import pytest
import torch
from commands import refused, refused_last, run, run_alone
from short_runs import write_config

from densevit.checkpoints.reading import read_file


@pytest.fixture(scope="module")
def trained(tmp_path_factory, root):
    folder = tmp_path_factory.mktemp("tools")
    config = write_config(folder)
    start = time.monotonic()
    options = ["--seed", "5", "--amp", "--cfg-options", "train_cfg.max_epochs=1", "model.head.test.score_thr=0.0"]
    done = run_alone(root, "train.py", config, "--work-dir", folder / "run", *options, "ema=True", "tensorboard=True")
    return folder, config, done, time.monotonic() - start


def test_a_training_says_little_and_leaves_everything(trained):
    folder, _, done, seconds = trained
    assert done.returncode == 0, done.stderr
    assert "arning" not in done.stderr and len(done.stdout.splitlines()) < 40
    names = {path.name for path in (folder / "run").iterdir()}
    assert {"epoch_1.pth", "last_checkpoint", "run.py"} <= names
    assert any("tfevents" in path.name for path in (folder / "run").rglob("*"))
    assert read_file(folder / "run" / "epoch_1.pth")["meta"]["seed"] == 5
    steps = [json.loads(x)["step"] for f in folder.glob("run/*/vis_data/2*.json") for x in f.read_text().splitlines()]
    assert steps == sorted(steps) and len(steps) == 5, "one line a step, and the validation's with the step before it"
    assert seconds < 60


@pytest.mark.parametrize("tool", ["train.py", "test.py"])
def test_help_answers_at_once_and_imports_no_torch(root, tool):
    code = (
        "import runpy, sys, time\n"
        f"sys.argv, start = ['{tool}', '--help'], time.process_time()\n"
        f"try: runpy.run_path({str(root / 'tools' / tool)!r}, run_name='__main__')\n"
        "except SystemExit as stop: assert not stop.code\n"
        "assert 'torch' not in sys.modules and 'mmengine' not in sys.modules\n"
        "print(time.process_time() - start)"
    )
    settings = dict(env=dict(os.environ, PYTHONPATH=str(root)), capture_output=True, text=True, check=True)
    done = [subprocess.run([sys.executable, "-c", code], **settings) for _ in range(3)]
    assert "usage: " in done[0].stdout
    assert min(float(one.stdout.splitlines()[-1]) for one in done) < 0.3


def test_test_scores_draws_and_writes_results(trained, root):
    folder, config, _, _ = trained
    arguments = [config, folder / "run" / "epoch_1.pth", "--work-dir", folder / "run", "--out", folder / "out.json"]
    arguments += ["--show-dir", folder / "show", "--cfg-options", "model.head.test.score_thr=0.0"]
    before = (folder / "run" / "run.py").read_text()
    done = run(root, "test.py", *arguments)
    assert done.returncode == 0, done.stderr
    assert "coco/bbox_AP" in done.stdout and "124 tensors loaded" in done.stdout and "2/2 batches" in done.stderr
    results = json.loads((folder / "out.json").read_text())
    assert results and set(results[0]) >= {"image_id", "category_id", "bbox", "score"}
    assert {r["category_id"] for r in results} <= {1, 3, 5}
    assert len(list((folder / "show").iterdir())) == 3
    assert (folder / "run" / "run.py").read_text() == before, "a test leaves the training's config alone"


def test_test_gives_the_validations_metrics(trained, root):
    """The averaged weights are what was validated, saved, and is tested."""
    folder, config, _, _ = trained
    log = next(iter(folder.glob("run/*/vis_data/2*.json"))).read_text().splitlines()[-1]
    arguments = [config, folder / "run" / "epoch_1.pth", "--work-dir", folder / "test"]
    done = run(root, "test.py", *arguments, "--cfg-options", "model.head.test.score_thr=0.0", "ema=True")
    assert done.returncode == 0, done.stderr
    assert f"coco/bbox_AP: {json.loads(log)['coco/bbox_AP']:.4f}" in done.stdout
    assert f"test_loss: {json.loads(log)['val_loss']:.4f}" in done.stdout


def test_a_checkpoint_of_other_classes_or_of_another_model_is_refused(trained, root):
    folder, config, _, _ = trained
    content = torch.load(folder / "run" / "epoch_1.pth", weights_only=True)
    content["meta"]["dataset_meta"]["classes"] = ("class 0", "class 2", "class 1")
    torch.save(content, folder / "other.pth")
    text = refused_last(run(root, "test.py", config, folder / "other.pth"))
    assert "'class 2' as class 1" in text and "other.pth" in text
    content["meta"]["dataset_meta"]["classes"] = ("one",)
    torch.save(content, folder / "other.pth")
    assert "trained on 1 classes" in refused_last(run(root, "test.py", config, folder / "other.pth"))
    wider = ["--cfg-options", "model.head.stacked_convs=2"]
    text = refused_last(run(root, "test.py", config, folder / "run" / "epoch_1.pth", *wider, cwd=folder))
    assert "head.cls_convs.1.weight" in text


def test_without_data_the_first_command_says_what_is_missing_and_the_two_ways_on(tmp_path, root):
    text = refused(run(root, "train.py", "pvt_retinanet_coco", cwd=tmp_path))
    assert "data/coco" in text and "instances_train2017.json" in text and "--data-root data/scenes" in text


def test_without_pretrained_weights_nothing_starts_unasked(trained, tmp_path, root):
    folder, _, _, _ = trained
    done = run(root, "train.py", "pvt_retinanet_coco", "--data-root", folder / "data", cwd=tmp_path)
    text = refused_last(done)
    assert "pvt_tiny.pth" in text and "--pretrained FILE" in text and "--pretrained none" in text
    arguments = ["--data-root", folder / "data", "--pretrained", "gone.pth"]
    done = run(root, "train.py", "pvt_retinanet_coco", *arguments, cwd=tmp_path)
    assert "gone.pth" in refused_last(done)


def test_the_number_of_classes_in_a_config_must_be_the_datasets(trained, tmp_path, root):
    _, config, _, _ = trained
    done = run(root, "train.py", config, "--cfg-options", "model.head.num_classes=80", cwd=tmp_path)
    assert "model.head.num_classes is 80" in refused_last(done) and "has 3 classes" in done.stderr


def test_a_broken_image_is_found_before_the_training(tmp_path, root):
    config = write_config(tmp_path)
    image = sorted((tmp_path / "data" / "train2017").iterdir())[3]
    image.write_bytes(image.read_bytes()[:100])
    done = run(root, "train.py", config, "--work-dir", tmp_path / "run")
    assert image.name in refused_last(done)
    assert "Epoch(train)" not in done.stdout


def test_a_broken_image_met_in_a_worker_is_one_sentence(tmp_path, root):
    """The annotations say another size than an image of the validation has: found when it is loaded."""
    config = write_config(tmp_path)
    image = sorted((tmp_path / "data" / "val2017").iterdir())[1]
    image.write_bytes(image.read_bytes()[:100])
    options = ["--cfg-options", "val_dataloader.num_workers=1", "train_cfg.max_epochs=1"]
    text = refused_last(run(root, "train.py", config, "--work-dir", tmp_path / "run", *options))
    assert image.name in text and text.startswith("error: ")
    assert (tmp_path / "run" / "epoch_1.pth").exists(), "the epoch is not lost"


def test_a_mistyped_key_is_named_before_torch_is_imported(root):
    options = ["train.py", "pvt_retinanet_coco", "--cfg-options", "optim_wraper.type=OptimWrapper"]
    code = (
        f"import runpy, sys; sys.argv = {options}\n"
        f"try: runpy.run_path({str(root / 'tools/train.py')!r}, run_name='__main__')\n"
        "finally: assert 'torch' not in sys.modules"
    )
    env = dict(os.environ, PYTHONPATH=str(root))
    text = refused(subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True))
    assert "'optim_wraper'" in text and "'optim_wrapper'" in text
