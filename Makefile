# Every task of the repository by name; `make help` lists them.
.DEFAULT_GOAL := help
CARGO ?= cargo

DOCKER ?= docker
IMAGE ?= iot-meter
# What an image is called in the registry: its version, unless it is no release.
IMAGE_TAG ?=
PUSHED = $(IMAGE):$(or $(IMAGE_TAG),$(VERSION))
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
REVISION := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
ARCH ?= amd64
OVERLAY ?= development
EXECUTABLE ?= $(or $(CARGO_TARGET_DIR),target)/release/iot-meter

.PHONY: help build contract test test-extra test-postgres test-alerts test-observe performance examples examples-tools azurite pictures lint fmt fmt-fix bench doc docs-update openapi demo rules dashboards advisories deny sbom fuzz coverage \
  image image-local image-test compose-test image-login image-push image-index secrets deploy-check prometheus-rule deploy deb deb-test manual dist checksums \
  release-notes release release-check ci clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## the executable, optimised (FEATURES=postgres,s3); with the list of its parts inside, where cargo-auditable is installed
	$(CARGO) $(if $(shell command -v cargo-auditable),auditable )build --release --locked $(if $(FEATURES),--features $(FEATURES))

contract: ## the vectors that tests read, beside this folder; CONTRACT_URL is the repository that holds them
	@[ -d ../shared/vectors ] || { \
	  [ -n "$(CONTRACT_URL)" ] || { echo "tests read ../shared/vectors, which is not there: set CONTRACT_URL to the repository that holds it" >&2; exit 1; }; \
	  git clone --quiet --depth 1 "$(CONTRACT_URL)" ../shared; }

test: ## all tests of a default build
	$(CARGO) test

# What a default build leaves out, as one build. Each run of tests is by way of LIMIT, if there is one (`timeout 25m`).
EXTRA := postgres,s3-tests,azure,gcs,otel,ops-tests

test-extra: examples-tools azurite engine ## what a default build leaves out: Postgres, object stores, traces, alerts, dashboards, examples (CONTRIBUTING.md: what it needs)
	$(CARGO) test --features $(EXTRA) --lib --test it --no-run
	$(LIMIT) $(CARGO) test --features $(EXTRA) --lib -- store::postgres store::sqlite::node archive::bucket series::tests history::tests::postgres observe::trace::otlp console::tests
	$(LIMIT) $(CARGO) test --features $(EXTRA) --test it -- postgres:: postgres_tls:: backup_postgres:: outages:: cloud:: notify::two_nodes notify::while_the_database_hangs alerting:: \
	  grafana:: promtool:: traces:: import:: examples:: handbook:: performance::the_script engines:: nodes:: history::
	IOT_METER_TEST_DATABASE=postgres $(LIMIT) $(CARGO) test --features $(EXTRA) --test it -- \
	  flow:: rest:: commands:: presence:: services:: secrets:: energy:: rollups:: firmware:: observability:: rules:: stream:: device_import:: \
	  access:: certificates:: enrolment:: login:: source:: secure_fleet:: faults:: history::
	IOT_METER_TEST_DATABASE=timescaledb $(LIMIT) $(CARGO) test --features $(EXTRA) --test it -- flow:: rest:: rollups:: history::

test-postgres: engine ## of these, the store's suite and the usual ways on a real Postgres, which the tests start (needs postgresql, libpq-dev)
	$(CARGO) test --features postgres --lib -- store::postgres history::tests::postgres series::tests::postgres
	$(CARGO) test --features postgres --test it -- postgres:: postgres_tls:: nodes:: engines:: backup_postgres::
	IOT_METER_TEST_DATABASE=postgres $(CARGO) test --features postgres --test it -- flow:: rest:: commands:: presence::

test-alerts: ## of these, the whole way of an alert (needs prometheus, prometheus-alertmanager, postgresql, libpq-dev)
	$(CARGO) test --features postgres,ops-tests --test it alerting::

test-observe: ## of these, the metrics page as promtool reads it (needs it), and spans as a collector gets them
	$(CARGO) test --features otel,ops-tests --test it -- promtool:: traces::

lint: ## lints of all targets, warnings are errors
	$(CARGO) clippy --all-targets --all-features -- -D warnings

fmt: ## check the formatting
	$(CARGO) fmt --check

fmt-fix: ## format
	$(CARGO) fmt

bench: ## benchmarks, each beside its limit
	$(CARGO) bench

performance: ## the load of tests/performance/scenario.json on a demo fleet; a limit that is not kept is an error (needs no k6)
	$(CARGO) bench --bench api -- --enforce

doc: ## the code's documentation, warnings are errors
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" $(CARGO) doc --no-deps --document-private-items

docs-update: ## rewrite config/default.toml, docs/reference.md and the README's table from the code
	UPDATE_DOCS=1 $(CARGO) test --test it docs::

openapi: ## print the OpenAPI document
	@$(CARGO) run --quiet --release -- openapi

demo: ## twenty simulated meters on this machine
	$(CARGO) run --release -- serve --demo 20 --open

examples: examples-tools ## run the examples and the commands of the documentation (needs python3, curl, openssl, mosquitto-clients, systemd)
	$(CARGO) test --features ops-tests --test it -- examples:: handbook::

EXAMPLES := $(HOME)/.cache/iot-meter/examples

examples-tools: ## fetch what examples and documentation use, once: paho-mqtt, and kubectl where there is none
	@test -x $(EXAMPLES)/bin/pip || python3 -m venv $(EXAMPLES)
	@$(EXAMPLES)/bin/python3 -c 'import paho.mqtt' 2>/dev/null || \
	  $(EXAMPLES)/bin/pip install --quiet --disable-pip-version-check -r examples/requirements.txt
	@deploy/check kubectl

engine: ## fetch the Postgres with TimescaleDB that tests use, once (needs apt, patchelf)
	@deploy/sql/engine >/dev/null

AZURITE := $(HOME)/.cache/iot-meter/azurite

azurite: ## fetch what the tests of az:// run against, once (needs npm)
	@cmp -s tests/azurite/package-lock.json $(AZURITE)/fetched || { rm -rf $(AZURITE) && mkdir -p $(AZURITE) && \
	  cp tests/azurite/package.json tests/azurite/package-lock.json $(AZURITE) && \
	  (cd $(AZURITE) && npm ci --silent --no-audit --no-fund --ignore-scripts) && \
	  cp tests/azurite/package-lock.json $(AZURITE)/fetched; }

pictures: ## take the pictures of docs/pictures anew, from a demo fleet (needs chromium, python3)
	docs/pictures/make $(wildcard $(EXECUTABLE))

rules: ## check the Prometheus rules, run their tests, check Alertmanager's routing (needs promtool, amtool)
	promtool check rules deploy/prometheus/rules.yml
	promtool test rules deploy/prometheus/rules_test.yml
	promtool check config --syntax-only deploy/prometheus/prometheus.yml
	amtool check-config deploy/alertmanager/alertmanager.yml

dashboards: ## write Grafana's dashboards from deploy/grafana/source (needs python3), ask all their queries (needs prometheus)
	python3 deploy/grafana/build.py
	$(CARGO) test --features ops-tests --test it grafana::

deny: ## licences, bans and sources, and advisories where their database is at hand; needs cargo-deny
	@if ! command -v cargo-deny >/dev/null; then echo "cargo-deny is not installed: skipped"; else \
	  $(CARGO) deny check licenses bans sources && \
	  if ls $${CARGO_HOME:-$$HOME/.cargo}/advisory-dbs/*/ >/dev/null 2>&1; then $(CARGO) deny check --disable-fetch advisories; \
	  else echo "no advisory database is at hand ($(CARGO) deny fetch): advisories are not checked"; fi; fi

advisories: ## fetch the database of advisories, for deny; needs cargo-deny
	$(CARGO) deny fetch

sbom: ## what the executable is made of, as CycloneDX (iot-meter.cdx.json; FEATURES as built); needs cargo-cyclonedx
	$(CARGO) cyclonedx --format json --spec-version 1.5 --override-filename iot-meter.cdx $(if $(FEATURES),--features $(FEATURES))
	@python3 -c 'import json, sys; bom = json.load(open("iot-meter.cdx.json")); parts = bom["components"]; \
	  names = {part["name"] for part in parts}; \
	  of = {"postgres": "pq-sys", "s3": "reqwest"}; \
	  wanted = {"tokio", "rustls"} | {of[name] for name in sys.argv[1].split(",") if name in of}; \
	  ok = bom["bomFormat"] == "CycloneDX" and wanted <= names and all(p["purl"] and p["version"] for p in parts); \
	  print("iot-meter.cdx.json:", len(parts), "components"); sys.exit(0 if ok else "not a complete bill of materials")' '$(FEATURES)'

fuzz: ## fuzz the MQTT packet decoder for a minute; FUZZ_TARGET (packet_stream, session, shred) and FUZZ_SECONDS choose
	CARGO=$(CARGO) fuzz/run $(or $(FUZZ_TARGET),packet_stream) $(or $(FUZZ_SECONDS),60)

coverage: ## which lines the tests run, as a page and as lcov in target/coverage; needs cargo-llvm-cov and llvm-tools
	$(CARGO) llvm-cov --no-report --features s3-tests
	$(CARGO) llvm-cov report --html --output-dir target/coverage
	$(CARGO) llvm-cov report --lcov --output-path target/coverage/lcov.info
	$(CARGO) llvm-cov report --summary-only --fail-under-lines 80

image: ## the container image; IMAGE, FEATURES, BUILD_IMAGE choose (see Dockerfile)
	$(DOCKER) build --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) $(if $(FEATURES),--build-arg FEATURES=$(FEATURES)) \
	  $(if $(BUILD_IMAGE),--build-arg BUILD_IMAGE=$(BUILD_IMAGE)) -t $(IMAGE):$(VERSION) .

image-local: ## the same by buildah, on a base made by debootstrap: no engine, no registry (EXECUTABLE packs one that is built); needs root
	VERSION=$(VERSION) REVISION=$(REVISION) FEATURES="$(FEATURES)" $(if $(filter file,$(origin EXECUTABLE)),,EXECUTABLE=$(EXECUTABLE)) \
	  deploy/image/local $(IMAGE):$(VERSION)

image-test: ## run the image as it is meant to be run: it becomes healthy, keeps its data, stops in good order, and is small
	DOCKER="$(DOCKER)" deploy/image/test $(IMAGE):$(VERSION)

compose-test: ## both compose files as they are with that image: healthy, and keep their data
	@[ $(IMAGE) = iot-meter ] || $(DOCKER) tag $(IMAGE):$(VERSION) iot-meter:$(VERSION)
	DOCKER="$(DOCKER)" deploy/compose/test

image-login: ## log in to the registry of IMAGE as REGISTRY_USER, with the token on stdin
	@$(DOCKER) login $(firstword $(subst /, ,$(IMAGE))) --username "$$REGISTRY_USER" --password-stdin

image-push: ## push the image of one architecture (ARCH=amd64); IMAGE_TAG=main if it is no release
	$(DOCKER) tag $(IMAGE):$(VERSION) $(PUSHED)-$(ARCH)
	$(DOCKER) push $(PUSHED)-$(ARCH)

image-index: ## one image of all architectures out of those that were pushed; prints its digest
	@$(DOCKER) buildx imagetools create -t $(PUSHED) $(foreach arch,amd64 arm64,$(PUSHED)-$(arch)) >&2
	@$(DOCKER) buildx imagetools inspect $(PUSHED) --format '{{.Manifest.Digest}}'

secrets: ## random secrets for deploy/compose/compose.full.yml
	deploy/compose/make-secrets

deploy-check: ## everything in deploy/ and .github against schemas and rules of our own; fetches its tools once
	deploy/check

prometheus-rule: ## the alert rules as an object of the Prometheus Operator, for kubectl apply -f -
	@printf '%s\n' 'apiVersion: monitoring.coreos.com/v1' 'kind: PrometheusRule' 'metadata:' '  name: iot-meter' \
	  '  labels: {app.kubernetes.io/name: iot-meter, app.kubernetes.io/part-of: iot-meter}' 'spec:'
	@sed 's/^./  &/' deploy/prometheus/rules.yml

deploy: ## apply an overlay (OVERLAY=development) to the current cluster and wait until it runs
	kubectl apply -k deploy/kubernetes/overlays/$(OVERLAY)
	kubectl -n $$(kubectl kustomize deploy/kubernetes/overlays/$(OVERLAY) | awk '/^  namespace: / { print $$2; exit }') \
	  rollout status statefulset/iot-meter --timeout=15m

# What is given away can use Postgres and S3.
deb dist: FEATURES = postgres,s3

deb: build manual ## the Debian package, into target/dist; needs cargo-deb
	@mkdir -p target/dist
	$(CARGO) deb --no-build $(DEB_FLAGS) --output target/dist/

deb-test: ## install, run, upgrade, remove and purge the package in a Debian system of its own; needs root and debootstrap
	@rm -rf target/deb-test && mkdir -p target/deb-test
	$(CARGO) deb --no-build --fast $(DEB_FLAGS) --deb-version $(VERSION)~test1 --output target/deb-test/old.deb
	$(CARGO) deb --no-build --fast $(DEB_FLAGS) --deb-version $(VERSION)~test2 --output target/deb-test/new.deb
	$(if $(filter 0,$(shell id -u)),,sudo) deploy/debian/test target/deb-test/old.deb target/deb-test/new.deb

manual: ## manual pages and completions of the executable, for packages
	@mkdir -p target/manual
	$(EXECUTABLE) man target/manual/man1
	$(EXECUTABLE) completions bash >target/manual/iot-meter.bash

dist: build deb sbom ## everything a release consists of, into target/dist
	@mkdir -p target/dist
	tar -C target/release -czf target/dist/iot-meter-$(VERSION)-$(shell uname -m)-linux.tar.gz iot-meter
	cp iot-meter.cdx.json target/dist/iot-meter-$(VERSION).cdx.json

checksums: ## SHA-256 of everything in target/dist
	cd target/dist && rm -f SHA256SUMS && sha256sum -- * >SHA256SUMS.new && mv SHA256SUMS.new SHA256SUMS && cat SHA256SUMS

release-notes: ## what CHANGELOG.md says of a version (TAG=v0.1.0)
	@awk -v version='$(TAG:v%=%)' '/^## \[/ { on = index($$0, "## [" version "]") == 1; next } on' CHANGELOG.md

release: ## publish target/dist as the release of a tag (TAG=v0.1.0), with what CHANGELOG.md says of it; needs gh
	@mkdir -p target
	@$(MAKE) --silent release-notes TAG=$(TAG) >target/notes.md
	gh release create $(TAG) --verify-tag --title $(TAG) --notes-file target/notes.md target/dist/*

release-check: ## whether a tag (TAG=v0.1.0) is the version of Cargo.toml, and CHANGELOG.md has a section of it
	@test '$(TAG)' = 'v$(VERSION)' || { echo "$(TAG) is not v$(VERSION), the version of Cargo.toml" >&2; exit 1; }
	@test -n "$$($(MAKE) --silent release-notes TAG=$(TAG))" || { echo "CHANGELOG.md has no section of $(VERSION)" >&2; exit 1; }

ci: contract fmt lint doc deny rules deploy-check test test-extra ## what the continuous integration checks, but for coverage, fresh advisories, the Debian package and the image

clean: ## remove what was built
	$(CARGO) clean
