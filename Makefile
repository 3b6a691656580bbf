# `make` lists the targets. Everything that is installed or made lies in .venv and
# .cache, but for system packages and container images.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory

# Of this checkout alone, so that two of them do not meet. inventory/group_vars/containers.yml
# makes the same names.
checkout := $(realpath .)
container = gunicorn-fastapi-$(SCENARIO)-$(HOST)-$(shell printf %s '$(checkout)' | sha1sum | cut -c1-8)
export ANSIBLE_HOME := $(checkout)/.cache/ansible
export ANSIBLE_CONFIG := $(checkout)/ansible.cfg
export PATH := $(checkout)/.venv/bin:$(PATH)
export LC_ALL := C.UTF-8

# The host that `make shell` opens, and the scenarios that `make molecule` runs.
SCENARIO ?= up
HOST ?= demo
ARGS ?=
# Of `make cuts` and `make soak`.
CUT_HOST = $(if $(filter debian12,$(HOST)),debian12,debian13)
N ?= 100
SEED ?=
STEPS ?= 100
REPLAY ?=
# The list that `make sbom` reads; - is standard input.
REQUIREMENTS ?= app/requirements.txt

.PHONY: help
help: ## list the targets
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

.PHONY: up
up: venv packages ## deploy app/ to a host in a container, and show that it runs
	@echo 'Starting the host'
	@ansible-playbook molecule/create.yml
	@echo 'Deploying, as with: ansible-playbook site.yml'
	@ansible-playbook site.yml $(ARGS)
	@tools/show-demo $(container)

.PHONY: shell
shell: ## open a shell on the host of `make up` (or HOST=debian12 SCENARIO=default)
	@tools/podman exec --interactive --tty $(container) bash --login

.PHONY: down
down: venv ## remove the host of `make up`
	@ansible-playbook molecule/destroy.yml

.PHONY: test
test: venv packages ## lint, unit tests, all Molecule scenarios, and whether the bench works
	@tools/stages lint unit molecule soak bench

.PHONY: lint
lint: venv ## run the linters
	@tools/stages lint

.PHONY: unit
unit: venv ## run the unit tests (ARGS for pytest)
	@pytest tests $(ARGS)

.PHONY: molecule
molecule: venv packages ## run all Molecule scenarios
	@tools/stages molecule

.PHONY: metal
metal: venv packages kernels ## power cuts, limits and the boot of a host on a kernel of its own
	@tools/stages metal

.PHONY: cuts
cuts: venv packages kernels ## cut the power of a host during deploys, N times (HOST=debian12, SEED)
	@trap 'for name in $(CUT_HOST){,-{1..4}}; do tools/metal down $$name; done' EXIT; \
	  molecule/metal/cuts.py $(CUT_HOST) --number $(N) $(if $(SEED),--seed $(SEED))

.PHONY: shop
shop: venv packages ## deploy examples/shop with PostgreSQL and Redis while orders come (LIMIT=debian13)
	@tools/stages shop

.PHONY: soak
soak: venv packages ## do random operations under load (SEED, STEPS, REPLAY, LIMIT=debian13)
	@SOAK_SEED=$(SEED) SOAK_STEPS=$(STEPS) SOAK_REPLAY='$(REPLAY)' molecule test --scenario-name soak

.PHONY: bench
bench: venv packages ## measure against what people would use instead; writes docs/performance.md (ARGS for bench/run)
	@bench/run $(ARGS)

.PHONY: sbom
sbom: venv ## print the bill of materials of REQUIREMENTS (CycloneDX)
	@uv venv --quiet --allow-existing .cache/sbom
	@uv pip install --quiet --python=.cache/sbom --require-hashes --no-build --requirements=tools/sbom-requirements.txt
	@.cache/sbom/bin/cyclonedx-py requirements --output-reproducible $(REQUIREMENTS)

.PHONY: lock
lock: venv ## write all lists of packages anew
	@for list in $$(git ls-files '*.in'); do \
	  case $$list in \
	    requirements-dev.in | tools/*) with=(--python-version=3.12 --custom-compile-command='make lock') ;; \
	    *-older.in) with=(--python-version=3.11 --no-header --no-deps) ;; \
	    *) with=(--python-version=3.11 --no-header) ;; \
	  esac; \
	  cd "$(checkout)/$$(dirname "$$list")"; \
	  uv pip compile --quiet --upgrade --universal --generate-hashes --no-emit-index-url "$${with[@]}" \
	    --output-file="$$(basename "$$list" .in).txt" "$$(basename "$$list")"; \
	done

.PHONY: clean
clean: ## remove .venv, .cache and this checkout's containers; images stay
	@! command -v podman >/dev/null || tools/podman ps --all --quiet \
	  --filter=name='-$(lastword $(subst -, ,$(container)))$$' | \
	  xargs --no-run-if-empty tools/podman rm --force --time=0 --volumes
	@for machine in $(wildcard .cache/metal/*/machine.json); do tools/metal down "$$(basename "$$(dirname "$$machine")")"; done
	@rm -rf .venv .cache .ansible

.PHONY: venv
venv:
	@tools/make-venv

.PHONY: packages
packages:
	@tools/install-packages podman mmdebstrap ssh ssh-keygen newuidmap flock nsenter unshare curl git

# Not every distribution and architecture has the first; what needs them is skipped then, and says so.
.PHONY: kernels
kernels:
	@tools/install-packages linux.uml slirp4netns || true
