# Every task of the repository by name; `make help` lists them.
.DEFAULT_GOAL := help
CARGO ?= cargo

.PHONY: help build test test-postgres lint fmt fmt-fix bench doc docs-update openapi demo rules deny sbom fuzz image ci clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## the executable, optimised; with the list of its parts inside, where cargo-auditable is installed
	@if command -v cargo-auditable >/dev/null; then $(CARGO) auditable build --release --locked; else $(CARGO) build --release; fi

test: ## all tests
	$(CARGO) test

test-postgres: ## the store's suite and the usual ways on a real Postgres, which the tests start (needs postgresql, libpq-dev)
	$(CARGO) test --features postgres --lib store::postgres
	IOT_METER_TEST_DATABASE=postgres $(CARGO) test --features postgres --test it -- postgres:: flow:: rest:: commands:: presence::

lint: ## lints of all targets, warnings are errors
	$(CARGO) clippy --all-targets --all-features -- -D warnings

fmt: ## check the formatting
	$(CARGO) fmt --check

fmt-fix: ## format
	$(CARGO) fmt

bench: ## benchmarks, each beside its limit
	$(CARGO) bench

doc: ## the code's documentation, warnings are errors
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" $(CARGO) doc --no-deps --document-private-items

docs-update: ## rewrite config/default.toml and the README's tables from the code
	UPDATE_DOCS=1 $(CARGO) test --test it docs::

openapi: ## print the OpenAPI document
	@$(CARGO) run --quiet --release -- openapi

demo: ## twenty simulated meters on this machine
	$(CARGO) run --release -- serve --demo 20 --open

rules: ## check the Prometheus rules, run their tests, check Alertmanager's routing (needs promtool, amtool)
	promtool check rules deploy/prometheus/rules.yml
	promtool test rules deploy/prometheus/rules_test.yml
	promtool check config --syntax-only deploy/prometheus/prometheus.yml
	amtool check-config deploy/alertmanager/alertmanager.yml

deny: ## licences, bans and sources, and advisories where their database is at hand; needs cargo-deny
	@if ! command -v cargo-deny >/dev/null; then echo "cargo-deny is not installed: skipped"; else \
	  $(CARGO) deny check licenses bans sources && \
	  if ls $${CARGO_HOME:-$$HOME/.cargo}/advisory-dbs/*/ >/dev/null 2>&1; then $(CARGO) deny check --disable-fetch advisories; \
	  else echo "no advisory database is at hand ($(CARGO) deny fetch): advisories are not checked"; fi; fi

sbom: ## what the executable is made of, as CycloneDX (iot-meter.cdx.json); needs cargo-cyclonedx
	$(CARGO) cyclonedx --format json --spec-version 1.5 --override-filename iot-meter.cdx
	@python3 -c 'import json, sys; bom = json.load(open("iot-meter.cdx.json")); parts = bom["components"]; \
	  names = {part["name"] for part in parts}; \
	  ok = bom["bomFormat"] == "CycloneDX" and {"tokio", "rustls"} <= names and all(p["purl"] and p["version"] for p in parts); \
	  print("iot-meter.cdx.json:", len(parts), "components"); sys.exit(0 if ok else "not a complete bill of materials")'

fuzz: ## fuzz the MQTT packet decoder for a minute; FUZZ_TARGET (packet_stream, session) and FUZZ_SECONDS choose
	CARGO=$(CARGO) fuzz/run $(or $(FUZZ_TARGET),packet_stream) $(or $(FUZZ_SECONDS),60)

image: ## the container image
	docker build -t iot-meter:latest .

ci: fmt lint doc test test-postgres rules deny ## everything the continuous integration checks

clean: ## remove what was built
	$(CARGO) clean
