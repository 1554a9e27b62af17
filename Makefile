# All set-up there is: each target installs what it needs and the machine lacks (see scripts/setup).
# Needs a Rust toolchain; https://rustup.rs installs one.

# rustup's own place, for shells that have not read its environment file yet.
export PATH := $(PATH):$(HOME)/.cargo/bin

.DEFAULT_GOAL := help
.PHONY: help demo test check fuzz-api measure-jobs bench bench-quick

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{ printf "%-18s%s\n", $$1, $$2 }'

demo: ## Build, and start the service with a Postgres of its own and made-up traffic
	@scripts/setup postgres
	cargo build --release --locked
	"$${CARGO_TARGET_DIR:-target}/release/endpoint-stats" demo

test: ## Run all tests, on a real Postgres and a real Redis
	@scripts/setup postgres redis
	cargo test --locked --workspace

fuzz-api: ## Hold the API to its description with made-up requests (schemathesis, from PyPI; some 2 minutes)
	@scripts/setup postgres python
	scripts/fuzz-api

bench: ## Measure the service beside its limits and beside the plain way; writes benches/RESULTS.md (some 10 minutes after the build)
	@scripts/setup postgres redis bench
	cargo build --release --locked --workspace
	"$${CARGO_TARGET_DIR:-target}/release/endpoint-stats-bench"

bench-quick: ## The same in less than 2 minutes after the build, one short round of each; writes nothing
	@scripts/setup postgres redis bench
	cargo build --release --locked --workspace
	"$${CARGO_TARGET_DIR:-target}/release/endpoint-stats-bench" --quick

measure-jobs: ## Measure maintenance on 2.6 billion requests in the rollups, and hold it to its goals (some 2 minutes)
	@scripts/setup postgres
	MEASURE_ALONE=1 cargo test --locked --test it -- jobs::measured jobs::beside --nocapture --test-threads=1

check: ## Formatting, lints and documentation, as CI does
	@scripts/setup
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps
