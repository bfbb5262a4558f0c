# SPDX-License-Identifier: MIT
# megalith: see README.md. `make help` lists the targets.

PREFIX  ?= /usr/local
DESTDIR ?=
BUILD   ?= build
OS      := $(shell uname -s)

CC      ?= cc
CLANG   ?= clang
BPFTOOL ?= $(shell command -v bpftool || command -v /usr/sbin/bpftool || echo bpftool)
PYTEST  ?= /usr/bin/python3 -m pytest

WARN = -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla \
       -Wpointer-arith -Wcast-qual -Wwrite-strings -Wundef -Wformat=2 $(if $(CI),-Werror)
HARDEN  ?= -O2 -g -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-protector-strong
BASE_CFLAGS = -std=c11 -D_GNU_SOURCE -fPIE -MMD -MP $(WARN) $(HARDEN) $(SANITIZE) \
	-Iinclude -Iuserspace -isystem $(BUILD)
BASE_LDFLAGS = -pie -Wl,--as-needed $(SANITIZE)

ifeq ($(OS),Linux)
# Only what the folder datapath/ holds is Linux: elsewhere none.c stands in for all of it.
DATAPATH_SRC = $(filter-out userspace/datapath/none.c,$(wildcard userspace/datapath/*.c))
DATAPATH_LIBS = -lbpf -lmnl
BASE_LDFLAGS += -Wl,-z,relro,-z,now
SKELETON = $(BUILD)/megalith.skel.h
else
DATAPATH_SRC = userspace/datapath/none.c
endif

# llhttp: a package where there is one, else the C sources that Debian's node-llhttp installs.
ifeq ($(shell pkg-config --exists libllhttp 2>/dev/null && echo yes),yes)
LLHTTP_CFLAGS = $(shell pkg-config --cflags libllhttp)
LLHTTP_LIBS = $(shell pkg-config --libs libllhttp)
else
LLHTTP_DIR ?= /usr/share/llhttp
LLHTTP_CFLAGS = -isystem /usr/share/include/llhttp -isystem /usr/share/include
LLHTTP_OBJ = $(patsubst $(LLHTTP_DIR)/%.c,$(BUILD)/obj/llhttp/%.o,$(wildcard $(LLHTTP_DIR)/*.c))
endif
PKG_CFLAGS := $(shell pkg-config --cflags libuv libcjson 2>/dev/null)
LIBS = $(shell pkg-config --libs libuv libcjson 2>/dev/null || echo -luv -lcjson) $(LLHTTP_LIBS) $(DATAPATH_LIBS)

PROGRAMS = megalithd megalith-proxy megalithctl megalith-simnode
LIB_SRC  = $(foreach d,base core net probe proxy control ctl simnode,$(wildcard userspace/$(d)/*.c)) $(DATAPATH_SRC)
LIB_OBJ  = $(LIB_SRC:userspace/%.c=$(BUILD)/obj/%.o) $(LLHTTP_OBJ)
MAIN_OBJ = $(PROGRAMS:%=$(BUILD)/obj/%.o)
LIB      = $(BUILD)/libmegalith.a

UNIT_SRC = $(wildcard tests/unit/test_*.c)
UNIT     = $(UNIT_SRC:tests/unit/%.c=$(BUILD)/tests/%)
ROOT_SRC = $(wildcard tests/packets/test_*.c tests/datapath/test_*.c)
ROOT_TESTS = $(foreach s,$(ROOT_SRC),$(BUILD)/tests/$(notdir $(s:.c=)))
BENCH    = $(BUILD)/tests/bench_packets
HTTP_BENCH = $(addprefix $(BUILD)/tests/,http_load http_node bare_relay)

.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all bpf deps demo check unit packets lab bench asan valgrind lint format install uninstall clean help
.DEFAULT_GOAL = all

all: $(PROGRAMS:%=$(BUILD)/%) ## build everything into build/

# --- userspace -------------------------------------------------------------------------------
$(BUILD)/obj/%.o: userspace/%.c | $(SKELETON)
	@mkdir -p $(@D)
	$(CC) $(BASE_CFLAGS) $(PKG_CFLAGS) $(LLHTTP_CFLAGS) $(CFLAGS) -c $< -o $@

$(BUILD)/obj/llhttp/%.o: $(LLHTTP_DIR)/%.c
	@mkdir -p $(@D)
	$(CC) -O2 -g -fPIE $(SANITIZE) $(LLHTTP_CFLAGS) -c $< -o $@

$(LIB): $(LIB_OBJ)
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/%: $(BUILD)/obj/%.o $(LIB)
	$(CC) $(BASE_LDFLAGS) $(LDFLAGS) $< $(LIB) $(LIBS) -o $@

# --- BPF: one object, one skeleton -------------------------------------------------------------
bpf: $(BUILD)/megalith.bpf.o

$(BUILD)/megalith.bpf.o: bpf/megalith.bpf.c $(wildcard bpf/*.h) $(wildcard include/megalith/*.h)
	@mkdir -p $(@D)
	$(CLANG) -target bpf -mcpu=v3 -O2 -g -Wall -Wextra -Werror -Iinclude \
		-I/usr/include/$(shell uname -m)-linux-gnu -c $< -o $@
	@command -v llvm-strip >/dev/null && llvm-strip -g $@ || true

$(BUILD)/bench.bpf.o: tests/bench/bench.bpf.c $(BUILD)/megalith.bpf.o
	$(CLANG) -target bpf -mcpu=v3 -O2 -g -Wall -Wextra -Werror -Iinclude -Ibpf \
		-I/usr/include/$(shell uname -m)-linux-gnu -c $< -o $@

$(BUILD)/bench.skel.h: $(BUILD)/bench.bpf.o
	$(BPFTOOL) gen skeleton $< name bench_bpf > $@

# -MMD leaves out what comes by -isystem: say it here.
$(BUILD)/obj/tests/bench_packets.o: $(BUILD)/bench.skel.h
$(BUILD)/obj/datapath/bpf.o $(BUILD)/obj/tests/rig.o: $(SKELETON)

$(BUILD)/megalith.skel.h: $(BUILD)/megalith.bpf.o
	$(BPFTOOL) gen skeleton $< name megalith_bpf > $@

# --- tests -------------------------------------------------------------------------------------
$(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(LIB)
	@mkdir -p $(@D)
	$(CC) $(BASE_LDFLAGS) $(LDFLAGS) $(filter %.o,$^) $(LIB) $(LIBS) -lcmocka -o $@

TEST_CFLAGS = $(BASE_CFLAGS) $(PKG_CFLAGS) $(LLHTTP_CFLAGS) -Itests $(CFLAGS)
$(BUILD)/obj/tests/%.o: tests/unit/%.c | $(SKELETON)
	@mkdir -p $(@D)
	$(CC) $(TEST_CFLAGS) -c $< -o $@
$(BUILD)/obj/tests/%.o: tests/packets/%.c | $(SKELETON)
	@mkdir -p $(@D)
	$(CC) $(TEST_CFLAGS) -c $< -o $@
$(BUILD)/obj/tests/%.o: tests/datapath/%.c | $(SKELETON)
	@mkdir -p $(@D)
	$(CC) $(TEST_CFLAGS) -c $< -o $@
$(BUILD)/obj/tests/%.o: tests/bench/%.c | $(SKELETON)
	@mkdir -p $(@D)
	$(CC) $(TEST_CFLAGS) -c $< -o $@

# What the packet tests and the packet bench share: building packets, running them, checking them.
PACKET_HELPERS = $(patsubst tests/packets/%.c,$(BUILD)/obj/tests/%.o,$(filter-out tests/packets/test_%,$(wildcard tests/packets/*.c)))
$(patsubst tests/packets/%.c,$(BUILD)/tests/%,$(wildcard tests/packets/test_*.c)) $(BENCH): $(PACKET_HELPERS)
$(ROOT_TESTS) $(BENCH): | $(SKELETON)

$(HTTP_BENCH): $(BUILD)/obj/tests/bench_io.o
$(BUILD)/tests/http_load: $(patsubst tests/bench/%.c,$(BUILD)/obj/tests/%.o,$(wildcard tests/bench/load*.c))

unit: $(UNIT) ## pure tests (no root)
	@scripts/run-tests $(UNIT)

packets: $(ROOT_TESTS) ## packets through both BPF programs, and the loader (root)
	@scripts/run-tests $(ROOT_TESTS)

lab: all ## real TCP through network namespaces (root)
	@scripts/run-tests --pytest tests/lab

check: deps ## all tests; installs what it needs on Debian/Ubuntu when run as root
	@$(MAKE) --no-print-directory check-all

check-all: all $(UNIT) $(ROOT_TESTS) $(BENCH) $(HTTP_BENCH)
	@scripts/check-layers
	@scripts/run-tests $(UNIT) $(ROOT_TESTS) --script scripts/check-docs --script scripts/check-memory --script scripts/check-streams --pytest tests/lab

bench: ## ns per packet of each program (root); the HTTP router against HAProxy, nginx and a bare relay
	@scripts/deps --bench
	@$(MAKE) --no-print-directory all $(BENCH) $(HTTP_BENCH)
	@$(BENCH)
	@MEGALITH_BUILD=$(BUILD) tests/bench/bench_http $(ARGS)

SANITIZERS = -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
ASAN_MAKE = $(MAKE) --no-print-directory BUILD=build/asan HARDEN="-O1 -g" SANITIZE="$(SANITIZERS)"
asan: deps ## unit, packet and lab tests under address and undefined-behaviour sanitizers
	@$(ASAN_MAKE) asan-run
asan-run: all $(UNIT) $(ROOT_TESTS)
	@MEGALITH_BUILD=$(BUILD) scripts/run-tests $(UNIT) $(ROOT_TESTS) --pytest tests/lab

valgrind: all ## megalithd through start, reload and stop: no leak, no error (root)
	@scripts/check-memory

# --- demo, habits --------------------------------------------------------------------------------
deps: ## install what build, tests and demo need (Debian/Ubuntu, as root)
	@scripts/deps

demo: deps ## the main job on this machine, in network namespaces (root). ARGS=--once ends after the tour
	@$(MAKE) --no-print-directory all
	@scripts/demo $(ARGS)

lint: ## layers, man pages, shell scripts, format
	@scripts/check-layers
	@scripts/check-docs
	@shellcheck $(shell grep -lE '^\#!.*(sh|bash)$$' scripts/* .ci/run 2>/dev/null)
	@clang-format --dry-run --Werror $(C_FILES)

C_FILES = $(wildcard include/megalith/*.h bpf/*.[ch] userspace/*.c userspace/*/*.[ch] tests/*/*.[ch])
format: ## clang-format over all C files
	@clang-format -i $(C_FILES)

MANDIR = $(DESTDIR)$(PREFIX)/share/man
install: all ## PREFIX= DESTDIR=
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/bin $(MANDIR)/man1 $(MANDIR)/man5 $(MANDIR)/man8
	install -m 755 $(BUILD)/megalithd $(BUILD)/megalith-proxy $(DESTDIR)$(PREFIX)/sbin
	install -m 755 $(BUILD)/megalithctl $(BUILD)/megalith-simnode $(DESTDIR)$(PREFIX)/bin
	install -m 644 config/man/*.1 $(MANDIR)/man1
	install -m 644 config/man/*.5 $(MANDIR)/man5
	install -m 644 config/man/*.8 $(MANDIR)/man8
	install -D -m 644 config/megalith.json $(DESTDIR)$(PREFIX)/share/megalith/megalith.json
	install -D -m 644 config/megalith.schema.json $(DESTDIR)$(PREFIX)/share/megalith/megalith.schema.json
	install -D -m 644 config/completion/megalithctl.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/megalithctl
	install -D -m 644 config/completion/_megalithctl $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_megalithctl

uninstall: ## what install put there
	rm -f $(PROGRAMS:%=$(DESTDIR)$(PREFIX)/sbin/%) $(PROGRAMS:%=$(DESTDIR)$(PREFIX)/bin/%)
	rm -f $(foreach m,$(notdir $(wildcard config/man/*.[158])),$(MANDIR)/man$(subst .,,$(suffix $(m)))/$(m))
	rm -rf $(DESTDIR)$(PREFIX)/share/megalith
	rm -f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/megalithctl
	rm -f $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_megalithctl

clean: ## remove build/
	rm -rf build

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

-include $(LIB_OBJ:.o=.d) $(MAIN_OBJ:.o=.d) $(wildcard $(BUILD)/obj/tests/*.d)
