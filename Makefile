# Altitude's everyday commands; `make` alone lists them.

TARGET := $(or $(CARGO_TARGET_DIR),target)
# Namespaces and AF_XDP need root; the build does not.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
PERF := $(SUDO) $(TARGET)/release/altitude-perf

help:        ## lists these commands
	@sed -n 's/^\([a-z-]*\): .*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

build: deps  ## builds the programs altitude and altitude-perf
	cargo build --release --package altitude-control --package altitude-perf

demo: build  ## two sites talk, in namespaces; KEEP=1 leaves them standing
	@$(PERF) demo $(if $(KEEP),--keep)

lab: build   ## ALTs with BGP, in namespaces: NAME=slides|levels|mixed|failover, KEEP=1, CUT=1 (links go)
	@$(PERF) lab $(or $(NAME),levels) $(if $(KEEP),--keep) $(if $(CUT),--cut)

lab-remove: build ## removes what `make lab KEEP=1` left standing
	@$(PERF) lab --remove

demo-remove: build ## removes what `make demo KEEP=1` left standing
	@$(PERF) demo --remove

test: lint   ## lint, all tests, the model of the map-cache's memory ordering; ends with the count
	@.ci/tests

lint: deps   ## format, clippy and documentation, warnings as errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps

bench: build ## the worker, the map-cache and real AF_XDP on veth, each beside references in the same run
	@$(PERF) mem
	@$(PERF) lpm
	@$(PERF) veth

install-lib: deps ## installs libaltitude, altitude.h and altitude.pc under PREFIX [/usr/local]; DESTDIR for packagers
	cargo build --release --package altitude-ffi
	@ffi/install "$(TARGET)/release" "$(or $(PREFIX),/usr/local)"

deps:        ## installs the system packages that are missing
	@docker/deps.sh

clean:       ## removes what was built
	cargo clean

.PHONY: help build demo demo-remove lab lab-remove test lint bench install-lib deps clean
