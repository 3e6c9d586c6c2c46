# make run     execute notebooks 01-05 (ONLY="4": one)  make test         ruff, unit tests, notebooks in smoke; FAST=1: only quick tests
# make lab     JupyterLab on the first notebook      make ablation     what each part brings, for notebook 05
# make bench   measure speed beside other code       make notebooks    refresh the committed outputs
# make samples export images from the trained generator: make samples NUMBER=100 SEED=1
# make clean   remove what make installed and cached; data and runs stay
# make runs    list all runs, or RUNS="one another": put two side by side
# make help    print this
# make train   command-line training; on several machines with MACHINES=host1:12345,host2:12345 INDEX=0
# make slices  cut your own volumes or pictures into PNG slices: FROM=folder [EXPERIMENT=knee] [TO=data]
#              [SUBJECTS=folder|name|each-file] what tells subjects  [SUFFIX=FLAIR] which contrast
#
# Choices: make run EXPERIMENT=brain|knee PROFILE=smoke|quick|full RECIPE=baseline|improved DATA=folder|phantoms
#          GPU=1 START_OVER=1 (train a finished run anew) SETTINGS="epochs=100 batch_size=32 debug=True output=folder ..."
# All settings with their values: .venv/bin/python -m scripts.train --help
# Each target makes .venv and installs what is missing; a second call reuses it.

PYTHON ?= python3
comma := ,
VENV := .venv
RUN_PYTHON := $(VENV)/bin/python
GPU_WANTED := $(filter-out 0,$(GPU))
START_OVER_WANTED := $(filter-out 0,$(START_OVER))
FAST_WANTED := $(filter-out 0,$(FAST))
INSTALLED := $(VENV)/installed$(if $(GPU_WANTED),-gpu)

# The notebooks read their defaults from these; empty ones count as not set.
export GAN_EXPERIMENT := $(or $(EXPERIMENT),$(GAN_EXPERIMENT))
export GAN_PROFILE := $(or $(PROFILE),$(GAN_PROFILE))
export GAN_RECIPE := $(or $(RECIPE),$(GAN_RECIPE))
export GAN_DATA := $(or $(DATA),$(GAN_DATA))
export GAN_SETTINGS := $(or $(SETTINGS),$(GAN_SETTINGS))
# Notebooks may import Keras before gan_utils, which says the same.
export KERAS_BACKEND := tensorflow
# TensorFlow's C++ messages would hide the output; 0 shows them all.
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: run lab test test-units test-notebooks train runs samples slices ablation notebooks bench clean help

run: $(INSTALLED)
	@$(RUN_PYTHON) -m scripts.run_notebooks $(if $(START_OVER_WANTED),--start-over) $(if $(ONLY),--only $(ONLY))

# The root is the top folder, not notebooks/: the notebooks show pictures from epoch_images/.
lab: $(INSTALLED)
	$(RUN_PYTHON) -m jupyter lab --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/notebooks/00_first_look.ipynb $(LAB_OPTIONS)

# In two processes, JOBS=4 in four. Where chromium is installed, it runs the brains' notebooks in JupyterLab (screenshots are in
# .pytest_cache/d/screenshots), and nbval only the knees'. FAST=1 leaves out what trains for long, and the notebooks.
BROWSER = $(shell command -v chromium chromium-browser google-chrome)
test: $(INSTALLED)
	$(RUN_PYTHON) -m ruff check .
	$(RUN_PYTHON) -m ruff format --check .
	@$(MAKE) --no-print-directory --jobs test-units $(if $(FAST_WANTED),,test-notebooks)

test-units:
	TF_NUM_INTRAOP_THREADS=1 $(RUN_PYTHON) -m pytest -n $(or $(JOBS),2) --dist loadfile $(if $(FAST_WANTED),-m "not slow") tests

# Beside the unit tests: it says how it ended, and all it has to say where it failed. notebooks/ has the solutions in it; where
# a browser runs the brains' notebooks, only these are left of them, and notebook 3, whose run they open.
test-notebooks:
	@rm -rf $(VENV)/tested_runs
	@for choice in "brain $(if $(BROWSER),notebooks/03_train.ipynb notebooks/solutions,notebooks)" "knee notebooks"; do \
		set -- $$choice; experiment=$$1; shift; \
		GAN_EXPERIMENT=$$experiment GAN_PROFILE=smoke GAN_RECIPE=baseline GAN_DATA=phantoms GAN_SETTINGS= \
		GAN_OUTPUT=$(VENV)/tested_runs $(RUN_PYTHON) -m pytest --nbval-lax --nbval-current-env \
		--nbval-cell-timeout=300 $$* > $(VENV)/nbval.txt 2>&1 || { cat $(VENV)/nbval.txt; exit 1; }; \
		echo; echo "Notebooks of $$experiment: $$(tail -n 1 $(VENV)/nbval.txt)"; \
	done

# The same on every machine, only INDEX differs.
train: $(INSTALLED)
	@test -z "$(and $(MACHINES),$(START_OVER_WANTED))" || { echo "START_OVER is not for several machines: rename the run's folder."; exit 2; }
	@$(RUN_PYTHON) -m scripts.train$(if $(MACHINES),_on_several_machines --machines $(MACHINES) --index $(INDEX),$(if $(START_OVER_WANTED), --start-over))

runs: $(INSTALLED)
	@$(RUN_PYTHON) -m scripts.runs $(RUNS)

samples: $(INSTALLED)
	@$(RUN_PYTHON) -m scripts.export_images $(if $(NUMBER),--number $(NUMBER)) $(if $(SEED),--seed $(SEED))

# NIfTI, Analyze or MGZ volumes, or PNG pictures. It continues where it was stopped.
slices: $(if $(FROM),$(INSTALLED))
	@test -n "$(FROM)" || { echo "Say where the volumes or pictures are: make slices FROM=folder [EXPERIMENT=knee] [TO=data]"; exit 2; }
	@$(RUN_PYTHON) -m scripts.cut_volumes "$(FROM)" $(if $(TO),--to "$(TO)") $(if $(SUBJECTS),--subjects "$(SUBJECTS)") $(if $(SUFFIX),--suffix "$(SUFFIX)")

# Both recipes, the improved one without each part, three failures, two minutes each: under half an hour. It continues where it
# was stopped.
ablation: $(INSTALLED)
	@$(RUN_PYTHON) -m scripts.ablation

# A quick run of each experiment on digital phantoms, in which notebook 5 trains the improved recipe, and then all that
# notebook 4 has to say of that one. The pictures of all four are then committed, and the notebooks as run with the
# brains' baseline. Notebook 0 ships with the generator of a long run, notebooks/first_look.
notebooks: $(INSTALLED)
	@for run in "brain baseline --start-over" "brain improved" "knee baseline --start-over" "knee improved"; do \
		set -- $$run; \
		GAN_EXPERIMENT=$$1 GAN_PROFILE=quick GAN_RECIPE=$$2 GAN_DATA=phantoms GAN_SETTINGS= GAN_OUTPUT= \
		$(RUN_PYTHON) -m scripts.run_notebooks $$3 && \
		$(RUN_PYTHON) -m scripts.publish_run $$1-$$2-quick || exit 1; \
	done
	@$(RUN_PYTHON) -m scripts.publish_first_look
	@$(RUN_PYTHON) -m scripts.result_tables

# Side by side with TensorFlow's tutorial, PyTorch and others: half an hour on two cores. BENCH names single ones.
bench: $(INSTALLED)
	$(RUN_PYTHON) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[benchmark]"
	$(RUN_PYTHON) -m benchmarks $(BENCH)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=python3.11 ...")'
	@echo "Installing into $(VENV): about 3 GB and two minutes, once."
	$(PYTHON) -m venv $(VENV)
	$(RUN_PYTHON) -m pip install --disable-pip-version-check --constraint constraints.txt --editable ".[test$(if $(GPU_WANTED),$(comma)gpu)]"
	@touch $@

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

clean:
	rm -rf $(VENV) *.egg-info .pytest_cache .ruff_cache .hypothesis .ipynb_checkpoints */.ipynb_checkpoints
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
