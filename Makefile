# Every target sets up what it needs in .venv (see scripts/install.sh for PYTHON and TORCH_INDEX).

BIN := .venv/bin
SETUP := pyproject.toml constraints.txt scripts/install.sh $(wildcard setup.py)
OLDEST := .venv-oldest
# Where the project meets what it depends on; all else is tested with the newest versions alone.
EXPORT := tests/export/test_export.py
OLDEST_TESTS := tests/test_package.py tests/test_hub.py tests/images/test_processor.py tests/images/test_reading.py \
	tests/zoo tests/inference tests/models/test_configuration.py tests/models/test_detector.py tests/models/backbones \
	tests/training/test_run.py tests/evaluation/test_coco.py $(EXPORT)::test_it_detects_what_the_model_detects \
	$(EXPORT)::test_int8_keeps_its_tokens_and_finds_the_objects

.PHONY: help demo test test-all test-turn test-oldest fuzz service-proof gpu gpu-dry-run lint types format docs site sbom audit clean

help:
	@echo "make demo    detect everyday things and blood cells in the example pictures; writes outputs/demo"
	@echo "make test    run the tests, but for the long ones     make test-all   with them"
	@echo "make test-turn       run the long ones of a fifth of their files, another one at each commit"
	@echo "make test-oldest     run those that dependencies matter to, with the oldest versions declared"
	@echo "make gpu     all that only a GPU can show    make gpu-dry-run   the same code, tiny, on a CPU"
	@echo "make fuzz    break data sets, pictures and archives at random and read them, MINUTES=30"
	@echo "make service-proof   5,000 broken requests, then 10 minutes of load"
	@echo "make lint    check style and formatting        make format   apply them"
	@echo "make types   check types                       make docs     write docs/cli.md anew"
	@echo "make site    build the site into outputs/site and check it; $(BIN)/zensical serve shows it as you write"
	@echo "make sbom    write the wheel's bill of materials       make audit    look for advisories of what is pinned"
	@echo "make clean   remove .venv, .venv-oldest, build products and caches"

.venv/.installed: $(SETUP)
	scripts/install.sh
	@touch $@

.venv/.installed-dev: $(SETUP)
	scripts/install.sh dev
	@touch .venv/.installed $@

demo: .venv/.installed
	$(BIN)/focus-detr predict everyday examples/everyday --output outputs/demo/everyday
	$(BIN)/focus-detr predict blood-cells examples/blood-cells --output outputs/demo/blood-cells

test: .venv/.installed-dev
	MALLOC_ARENA_MAX=2 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $${PYTEST_WORKERS:-2} --dist worksteal -m "not slow" $(ARGS)

test-all: .venv/.installed-dev
	MALLOC_ARENA_MAX=2 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $${PYTEST_WORKERS:-2} --dist worksteal $(ARGS)

# The slow tests of a fifth of their files, of another fifth at each commit: no machine waits for an hour.
test-turn: .venv/.installed-dev
	MALLOC_ARENA_MAX=2 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $${PYTEST_WORKERS:-2} --dist worksteal \
	    -m slow --slow-share "$$(git rev-list --count HEAD)/5" $(ARGS)

$(OLDEST)/.installed: $(SETUP) constraints-oldest.txt
	VENV=$(OLDEST) CONSTRAINTS=constraints-oldest.txt scripts/install.sh test
	@touch $@

test-oldest: $(OLDEST)/.installed
	MALLOC_ARENA_MAX=2 OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest -n $${PYTEST_WORKERS:-2} --dist worksteal $(OLDEST_TESTS) $(ARGS)

# On a machine with a GPU, installed with TORCH_INDEX= (see README): minutes, and one file of results.
gpu: .venv/.installed-dev
	$(BIN)/python -m pytest -n $${PYTEST_WORKERS:-2} tests/gpu tests/ops/test_triton.py $(ARGS)
	$(BIN)/python benchmarks/gpu.py

gpu-dry-run: .venv/.installed-dev
	GPU_DRY_RUN=1 $(BIN)/python -m pytest tests/gpu tests/ops/test_triton.py $(ARGS)
	$(BIN)/python benchmarks/gpu.py --dry-run

fuzz: .venv/.installed-dev
	$(BIN)/python scripts/fuzz.py --minutes $${MINUTES:-5}

# What docs/service.md states of the service; on a machine that does nothing else, or its times are not worth much.
service-proof: .venv/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python scripts/fuzz_service.py --requests 5000
	$(BIN)/python benchmarks/service.py blood-cells examples/blood-cells --minutes 10 $(ARGS)

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/hadolint operations/Dockerfile
	$(BIN)/shellcheck operations/slurm/train.sbatch
	$(BIN)/kubernetes-validate --strict operations/kubernetes/train.yaml

format: .venv/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: .venv/.installed-dev
	$(BIN)/mypy

docs: .venv/.installed-dev
	$(BIN)/python scripts/write_cli_reference.py

site: .venv/.installed-dev
	$(BIN)/python scripts/build_site.py

# What the wheel brings along, as CycloneDX in dist.
sbom: .venv/.installed-dev
	rm -rf dist
	$(BIN)/python -m build --wheel
	$(BIN)/python scripts/write_sbom.py dist/*.whl

# Advisories of the pinned versions; says so where no network gives them.
audit: .venv/.installed-dev
	$(BIN)/python scripts/audit.py

clean:
	rm -rf .venv $(OLDEST) .cache build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
