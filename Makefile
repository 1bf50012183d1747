# Two commands do everything on a fresh machine: make train, make test. Python 3.10 or newer; override with PYTHON=...
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SCENES := data/scenes
WORK := work_dirs/pvt_retinanet_scenes

.PHONY: install train test lint clean

install: $(VENV)/.installed

# torch and torchvision are installed together and by name alone, so that the registry gives a matching pair
$(VENV)/.installed: setup.cfg setup.py pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "densevit needs Python 3.10 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch torchvision
	$(BIN)/python -m pip install --quiet -e '.[test]'
	touch $@

# renders scenes of another seed than the shipped weights were trained on, fine-tunes a small detector from their
# backbone, prints COCO metrics, draws predictions beside the ground truth
train: install
	$(BIN)/python data/make_scenes.py --out $(SCENES) --seed 1 --images 4000 --val 300 --size 192 --labels boxes,masks
	$(BIN)/python tools/train.py configs/pvt_retinanet_scenes.py --work-dir $(WORK) --amp
	$(BIN)/python tools/contact_sheet.py configs/pvt_retinanet_scenes.py $(WORK)/latest.pth --out $(WORK)/contact_sheet.png

test: install
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m pytest -n 2

lint: install
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

clean:
	rm -rf $(VENV) $(SCENES) work_dirs build dist *.egg-info
