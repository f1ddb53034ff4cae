# The commands a developer needs. All of them install what is missing (Debian, Ubuntu) and are run as root, because
# containers are.

SHELL := /bin/sh
ROOT := $(CURDIR)
IMAGES := target/images
DEMO := target/demo

# Debian packages, by what needs them.
RUN_PACKAGES := nftables iproute2 git make gcc libc6-dev pkg-config ca-certificates
IMAGE_PACKAGES := busybox-static mmdebstrap
TEST_PACKAGES := docker-registry skopeo iptables procps attr bzip2 xz-utils

.PHONY: demo test bench lint images packages test-packages compat-record

## Runs a real pipeline of a small real project, from nothing.
demo: packages images
	cargo build --release --locked --package worker --package engine-runtime --package engine-cli
	demo/run.sh "$(ROOT)/target/release" "$(ROOT)/$(IMAGES)" "$(ROOT)/$(DEMO)"

## Checks style and runs every test.
test: test-packages images lint
	cargo build --locked --workspace --all-targets
	cargo test --locked --workspace --no-fail-fast

## Formatting and lints, warnings denied.
lint:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

## Times the hot paths, beside a Docker where one answers.
bench: packages images
	cargo build --release --locked --workspace --bins
	target/release/bench --images "$(ROOT)/$(IMAGES)"

## Makes the base images that demo and tests use, without a registry.
images: packages
	tests/images/make.sh $(IMAGES)

packages:
	@tests/packages.sh $(RUN_PACKAGES) $(IMAGE_PACKAGES)

test-packages: packages
	@tests/packages.sh $(TEST_PACKAGES)

## Asks a real Docker anew what it makes of the cases of tests/docker_compat; `git diff` shows what it says otherwise.
compat-record: test-packages images
	COMPAT_RECORD=1 cargo test --locked --package tests --test docker_compat images_are_as_docker_builds_them
