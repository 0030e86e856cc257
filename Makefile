# On a fresh Debian machine as root, `make demo` and `make test` do all set-up themselves.
.DEFAULT_GOAL := help
.PHONY: help demo test build release lint unit live bpf numbers guest fuzz bench accuracy figures peers setup oracle clients

help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-10s %s\n", $$1, $$2 }'

demo: build ## the whole job on this machine, in a few seconds, nothing left behind
	@target/release/stallspan demo

test: setup ## everything that must pass; the last line tells how many did
	@tests/lanes.sh

build: ## the release binary, target/release/stallspan
	@tests/setup.sh build
	@cargo build --locked --release

release: ## the same, compiled for what it was seen doing most: a tenth less CPU time, ten minutes or more; target/trained/stallspan (root)
	@tests/setup.sh release
	@tests/release.sh

lint: ## format, clippy, docs
	@tests/setup.sh build
	@tests/lanes.sh format lint docs

unit: ## the tests that need nothing but this repository
	@tests/setup.sh build
	@tests/lanes.sh unit

live: setup ## the chain with real parts: containerd, Collector, Jaeger, Tempo (root)
	@tests/lanes.sh live

accuracy: setup peers ## spans against what the kernel told the threads: sums through the chain, and each span's error; an idle minute (root)
	@cargo build --locked --release --bin stallspan --example checkout
	@STALLSPAN_BIN=$(CURDIR)/target/release/stallspan CHECKOUT_BIN=$(CURDIR)/target/release/examples/checkout \
	  cargo test --locked --test live -- --test-threads=1 --nocapture chain::
	@STALLSPAN_BIN=$(CURDIR)/target/release/stallspan STALLSPAN_WINDOWS=400 STALLSPAN_IDLE_SECONDS=60 \
	  cargo test --locked --test numbers -- single_waits_of_one_thread single_waits_of_four_threads \
	  single_waits_of_two_threads_each_its_own an_idle_container_has_no_single_wait

oracle: ## senders, a moody downstream, the agent ended COUNT times (1000) in the middle: nothing acknowledged is lost (root)
	@tests/setup.sh build
	@STALLSPAN_ORACLE_KILLS=$(or $(COUNT),1000) cargo test --locked --test oracle -- --nocapture

clients: setup ## senders of other people: SDKs for Python, Go, Java and Node, telemetrygen, the Collector
	@tests/lanes.sh clients

figures: setup release peers ## the build of `make release`: against the Collector in one run, the agent at rest with 30 containers, on a full node, and under attack, on all CPUs and on one of its own (root)
	@cargo build --locked --release --example checkout --example forwarder
	@STALLSPAN_BIN=$(CURDIR)/target/trained/stallspan CHECKOUT_BIN=$(CURDIR)/target/release/examples/checkout \
	  FORWARDER_BIN=$(CURDIR)/target/release/examples/forwarder \
	  cargo test --locked --release --test live -- --test-threads=1 --nocapture figures::
	@STALLSPAN_BIN=$(CURDIR)/target/trained/stallspan STALLSPAN_HOSTILE_SECONDS=5 \
	  cargo test --locked --release --test hostile -- --nocapture --test-threads=1
	@STALLSPAN_BIN=$(CURDIR)/target/trained/stallspan STALLSPAN_HOSTILE_APART=1 STALLSPAN_HOSTILE_SECONDS=5 \
	  cargo test --locked --release --test hostile memory -- --nocapture --test-threads=1

numbers: setup ## metrics and spans against the kernel's own numbers (root)
	@tests/lanes.sh numbers

guest: setup ## the same on cgroup v2, in a guest under QEMU
	@tests/lanes.sh guest

fuzz: ## every fuzz target for a minute each; `fuzz/run.sh TARGET SECONDS` for one of them
	@tests/setup.sh build
	@fuzz/run.sh all 60

bpf: ## compile the eBPF programs anew (clang-14); `src/bpf/build.sh check` compares with what is committed
	@src/bpf/build.sh

bench: ## micro-benchmarks
	@tests/setup.sh build
	@cargo bench --locked --benches

peers: ## the real peers of the tests, into target/peers
	@tests/setup.sh test
	@tests/peers/build.sh

setup:
	@tests/setup.sh test
