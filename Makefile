# The commands a developer needs. All of them install what is missing (Debian, Ubuntu) and are run as root, because
# containers are.

SHELL := /bin/sh
ROOT := $(CURDIR)
IMAGES := target/images
DEMO := target/demo
VM := target/vm
PYTHON := target/python

# Debian packages, by what needs them.
RUN_PACKAGES := nftables iproute2 procps git ca-certificates
BUILD_PACKAGES := make gcc libc6-dev pkg-config
IMAGE_PACKAGES := busybox-static mmdebstrap debian-archive-keyring
TEST_PACKAGES := docker-registry skopeo iptables attr bzip2 xz-utils openssl python3-venv
VM_PACKAGES := qemu-system-x86 e2fsprogs
# What is needed inside the virtual machine, where only a test assembles its program.
GUEST_PACKAGES := $(RUN_PACKAGES) $(TEST_PACKAGES) busybox-static gcc

# The tests for which the kernel matters.
KERNEL_TESTS := --package tests --test kernel --test e2e --test faults --test docker_api \
	--package engine-sys --package engine-image --package engine-runtime --package engine-network \
	--package engine-build --package engine --lib

.PHONY: demo test test-vm bench bench-vm lint images python packages test-packages vm compat-record

## Runs a real pipeline of a small real project, from nothing.
demo: packages images
	cargo build --release --locked --package worker --package engine-runtime --package engine-cli
	demo/run.sh "$(ROOT)/target/release" "$(ROOT)/$(IMAGES)" "$(ROOT)/$(DEMO)"

## Checks style and runs every test.
test: test-packages images python lint
	cargo build --locked --workspace --all-targets
	cargo test --locked --workspace --no-fail-fast

## Runs the tests for which the kernel matters on a stock Debian 12: Linux 6.1, cgroup v2 alone, systemd.
test-vm: vm
	cargo build --locked --workspace --bins
	cargo test --locked --no-run --message-format=json $(KERNEL_TESTS) >$(VM)/built.json
	tests/vm/run.sh $(VM) tests/vm/suites.sh

## Formatting and lints, warnings denied.
lint:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

## Times the hot paths, beside a Docker where one answers.
bench: packages images
	cargo build --release --locked --workspace --bins
	target/release/bench --images "$(ROOT)/$(IMAGES)"

## Times the hot paths on that Debian 12.
bench-vm: vm
	cargo build --release --locked --workspace --bins
	tests/vm/run.sh $(VM) tests/vm/bench.sh

## Makes the base images that demo and tests use, without a registry.
images: packages
	tests/images/make.sh $(IMAGES)

## Makes the virtual environment of the tests that are clients in Python.
python: test-packages
	@cmp -s tests/docker_py/requirements.txt $(PYTHON)/requirements.txt || { rm -rf $(PYTHON) && \
		python3 -m venv $(PYTHON) && $(PYTHON)/bin/pip install --quiet --requirement tests/docker_py/requirements.txt && \
		cp tests/docker_py/requirements.txt $(PYTHON)/; }

packages:
	@tests/packages.sh $(RUN_PACKAGES) $(BUILD_PACKAGES) $(IMAGE_PACKAGES)

test-packages: packages
	@tests/packages.sh $(TEST_PACKAGES)

vm: images
	@tests/packages.sh $(VM_PACKAGES)
	tests/vm/image.sh $(VM) $(GUEST_PACKAGES)

## Asks a real Docker anew what it makes of the cases of tests/docker_compat; `git diff` shows what it says otherwise.
compat-record: test-packages images
	COMPAT_RECORD=1 cargo test --locked --package tests --test docker_compat images_are_as_docker_builds_them
