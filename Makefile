# Delias: every target in a line, `make` alone prints them. Everything that is made lies under build/.
#
# Variables: CMD (shell lines for exec), TIMEOUT (seconds), MEM (512M), ICOUNT=1 (count instructions), QEMU_ARGS
# (appended to QEMU's arguments), APPLY=1 (update at once), DROP (guests not to carry along), PIN (guests that keep what they use of the base), SANDBOX=none (guests are built again without one), FROM (a commit), ONLY (tests whose name has this in it), JOBS (tests at a time).

.SUFFIXES:
.DEFAULT_GOAL := help
.PHONY: help setup doctor tool sdk image iso run exec update rollback watch gdb bench voyage test audit fmt lint doc clean

# The compiler that setup found, and nothing of the surroundings in its way. Progress goes to standard error, so that
# standard output is what the command prints.
with_tools = . build/toolchain && export RUSTC RUSTDOC="$$(dirname "$$RUSTC")/rustdoc" RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$$PWD/build/cargo" && \
	unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER &&

# The variables of the command line go to what runs exactly as they were written, whatever `$` is in them.
variables := CMD TIMEOUT MEM ICOUNT QEMU_ARGS APPLY DROP PIN SANDBOX FROM ONLY JOBS
$(foreach name,$(variables),$(eval override $(name) := $$(value $(name))))
export $(variables)

# $(call delias,ARGUMENTS): the host tool in make's place, so that its exit status and its terminal are make's
# (build_scripts/become.rs says how). A make that cannot load objects runs it as a child, and turns a failure into 2.
# With -n it is only printed.
dry = $(findstring n,$(filter-out --%,$(firstword -$(MAKEFLAGS))))
delias = $(if $(dry),build/delias $(1),$(if $(filter load,$(.FEATURES)),$(eval load build/become.so)$(call become,build/delias,$(1)),build/delias $(1)))

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1 /p' $(firstword $(MAKEFILE_LIST)) | while read -r t text; do printf 'make %-6s %s\n' "$$t" "$$text"; done

setup: ## install what is missing: the pinned compiler, QEMU, GRUB's tools
	@sh build_scripts/setup.sh

doctor: tool ## look over this machine, and say what to do
	$(call delias,doctor)

tool: setup build/become.so
	@$(with_tools) "$$CARGO" build $(if $(wildcard build/delias),-q) -p delias >&2
	@cmp -s build/cargo/debug/delias build/delias || { cp build/cargo/debug/delias build/delias.new && mv build/delias.new build/delias; }

build/become.so: build_scripts/become.rs | setup
	@. build/toolchain && "$$RUSTC" --edition 2024 --crate-type cdylib -O -Cstrip=symbols -Cpanic=abort $< -o $@

sdk: tool ## what is needed to build cells outside this tree, build/delias-sdk-ID.tar.gz
	$(call delias,sdk)

image: tool ## compile and link every cell, write build/
	@build/delias image

iso: image ## the disk that boots by GRUB, build/delias.iso

run: tool ## boot, with the shell on this terminal
	$(call delias,run)

exec: tool ## boot without a screen, run CMD='…', exit with its status
	$(call delias,headless)

update: tool ## offer what differs to the running system, where `update` applies it; APPLY=1 does so at once
	$(call delias,offer)

rollback: tool ## take the last update of the running system back, without its console
	$(call delias,rollback)

watch: tool ## every saved source becomes running code
	$(call delias,watch)

gdb: tool ## debug the running system, with the symbols of every cell where it lies now
	$(call delias,gdb)

bench: tool ## what parts of an update cost, in instructions
	$(call delias,bench)

voyage: tool ## boot an earlier commit, FROM=REV, and sail to this tree by updates
	$(call delias,voyage)

test: tool ## every test and every rule; closes with `N passed, N failed`
	$(call delias,test)

audit: image ## the rules that can be read off objects
	@build/delias audit

fmt: setup ## format every source file
	@. build/toolchain && bin=$$(dirname "$$RUSTC") && export RUSTFMT="$$bin/rustfmt" CARGO && \
	if [ ! -x "$$RUSTFMT" ]; then echo "make fmt: no rustfmt beside $$RUSTC (on Debian in rustfmt-web)" >&2; exit 1; fi && \
	"$$bin/cargo-fmt" --all && "$$RUSTFMT" --edition 2024 build_scripts/become.rs

lint: tool ## clippy over everything; warnings are errors
	@build/delias lint

doc: tool ## documentation of the cells, below build/cargo
	@build/delias doc

clean: ## remove build/
	rm -rf build
