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
BASE_CFLAGS = -std=c11 $(OS_CFLAGS) -fPIE -MMD -MP $(WARN) $(HARDEN) $(SANITIZE) \
	-Iinclude -Iuserspace -isystem $(BUILD)
BASE_LDFLAGS = $(OS_LDFLAGS) $(SANITIZE)

# Others' headers (Homebrew's are in no folder that the compiler knows) are not ours to warn about.
headers = $(patsubst -I%,-isystem %,$(shell pkg-config --cflags $(1) 2>/dev/null))

ifeq ($(OS),Linux)
# Only what the folder datapath/ holds is Linux: elsewhere none.c stands in for all of it.
DATAPATH_SRC = $(filter-out userspace/datapath/none.c,$(wildcard userspace/datapath/*.c))
DATAPATH_LIBS := $(shell pkg-config --libs libbpf libmnl 2>/dev/null || echo -lbpf -lmnl)
DATAPATH_CFLAGS := $(call headers,libbpf libmnl)
OS_CFLAGS = -D_GNU_SOURCE
OS_LDFLAGS = -pie -Wl,--as-needed -Wl,-z,relro,-z,now
SKELETON = $(BUILD)/megalith.skel.h
else
DATAPATH_SRC = userspace/datapath/none.c
endif

ifeq ($(OS),Darwin)
# Instead of the folders in base/paths.h: a Mac has no /run, and /etc and /var are the system's.
CONFIG_DIR ?= $(PREFIX)/etc/megalith
RUN_DIR    ?= $(PREFIX)/var/run/megalith
STATE_DIR  ?= $(PREFIX)/var/lib/megalith
OS_CFLAGS = -D_DARWIN_C_SOURCE -DCONFIG_DIR='"$(CONFIG_DIR)"' -DRUN_DIR='"$(RUN_DIR)"' -DSTATE_DIR='"$(STATE_DIR)"'
endif

# llhttp: a package where there is one, else the C sources that Debian's node-llhttp installs.
ifeq ($(shell pkg-config --exists libllhttp 2>/dev/null && echo yes),yes)
LLHTTP_CFLAGS := $(call headers,libllhttp)
LLHTTP_LIBS := $(shell pkg-config --libs libllhttp)
else
LLHTTP_DIR ?= /usr/share/llhttp
LLHTTP_CFLAGS = -isystem /usr/share/include/llhttp -isystem /usr/share/include
LLHTTP_OBJ = $(patsubst $(LLHTTP_DIR)/%.c,$(BUILD)/obj/llhttp/%.o,$(wildcard $(LLHTTP_DIR)/*.c))
endif
PKG_CFLAGS := $(call headers,libuv libcjson) $(DATAPATH_CFLAGS)
PKG_LIBS := $(shell pkg-config --libs libuv libcjson 2>/dev/null || echo -luv -lcjson)
LIBS = $(PKG_LIBS) $(LLHTTP_LIBS) $(DATAPATH_LIBS)

PROGRAMS = megalithd megalith-proxy megalithctl megalith-simnode
LIB_SRC  = $(foreach d,base core net probe proxy control ctl simnode,$(wildcard userspace/$(d)/*.c)) $(DATAPATH_SRC)
LIB_OBJ  = $(LIB_SRC:userspace/%.c=$(BUILD)/obj/%.o) $(LLHTTP_OBJ)
MAIN_OBJ = $(PROGRAMS:%=$(BUILD)/obj/%.o)
LIB      = $(BUILD)/libmegalith.a

UNIT_SRC = $(wildcard tests/unit/test_*.c)
UNIT     = $(UNIT_SRC:tests/unit/%.c=$(BUILD)/tests/%)
ROOT_SRC = $(if $(SKELETON),$(wildcard tests/packets/test_*.c tests/datapath/test_*.c))
ROOT_TESTS = $(foreach s,$(ROOT_SRC),$(BUILD)/tests/$(notdir $(s:.c=)))
BENCH    = $(if $(SKELETON),$(BUILD)/tests/bench_packets)
# What the tests in tests/http run besides the programs.
HTTP_TOOLS = $(BUILD)/tests/scan_driver
HTTP_BENCH = $(addprefix $(BUILD)/tests/,http_load http_node bare_relay)

.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all bpf deps demo check unit packets http lab bench asan fuzz fuzz-build fuzz-programs valgrind check-portable lint format install install-launchd uninstall clean help
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

$(PROGRAMS:%=$(BUILD)/%): $(BUILD)/%: $(BUILD)/obj/%.o $(LIB)
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
	$(CC) $(BASE_LDFLAGS) $(LDFLAGS) $(filter %.o,$^) $(LIB) $(LIBS) $(CMOCKA_LIBS) -o $@

CMOCKA_LIBS = $(shell pkg-config --libs cmocka 2>/dev/null || echo -lcmocka)
TEST_CFLAGS = $(BASE_CFLAGS) $(PKG_CFLAGS) $(LLHTTP_CFLAGS) $(call headers,cmocka) -Itests $(CFLAGS)
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
$(BUILD)/obj/tests/%.o: tests/http/%.c | $(SKELETON)
	@mkdir -p $(@D)
	$(CC) $(TEST_CFLAGS) -c $< -o $@

# What the packet tests and the packet bench share: building packets, running them, checking them.
PACKET_HELPERS = $(patsubst tests/packets/%.c,$(BUILD)/obj/tests/%.o,$(filter-out tests/packets/test_%,$(wildcard tests/packets/*.c)))
$(patsubst tests/packets/%.c,$(BUILD)/tests/%,$(wildcard tests/packets/test_*.c)) $(BENCH): $(PACKET_HELPERS)
$(ROOT_TESTS) $(BENCH): | $(SKELETON)

# What runs where there is no datapath, for the tests: none.o answers before the archive is asked.
NO_DATAPATH = $(BUILD)/tests/megalithd-no-datapath
$(NO_DATAPATH): $(BUILD)/obj/megalithd.o $(BUILD)/obj/datapath/none.o $(LIB)
	@mkdir -p $(@D)
	$(CC) $(BASE_LDFLAGS) $(LDFLAGS) $^ $(LIBS) -o $@
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

http: all $(HTTP_TOOLS) $(NO_DATAPATH) ## the HTTP router: raw sockets, the npm clients, slow attackers (no root)
	@scripts/run-tests --halves tests/http

check-all: all $(UNIT) $(ROOT_TESTS) $(BENCH) $(HTTP_BENCH) $(HTTP_TOOLS) $(NO_DATAPATH)
	@scripts/check-layers
	@scripts/run-tests $(UNIT) $(ROOT_TESTS) --script scripts/check-docs --script scripts/check-memory \
		--script scripts/check-streams --script scripts/check-portable --together $(FUZZERS:%="scripts/fuzz --seconds 30 %") \
		--halves tests/http --pytest tests/lab

bench: ## ns per packet of each program (root); the HTTP router against HAProxy, nginx and a bare relay
	@scripts/deps --bench
	@$(MAKE) --no-print-directory all $(BENCH) $(HTTP_BENCH)
	@$(BENCH)
	@MEGALITH_BUILD=$(BUILD) tests/bench/bench_http $(ARGS)

SANITIZERS = -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
ASAN_MAKE = $(MAKE) --no-print-directory BUILD=build/asan HARDEN="-O1 -g" SANITIZE="$(SANITIZERS)"
asan: deps ## unit, packet and lab tests under address and undefined-behaviour sanitizers
	@$(ASAN_MAKE) asan-run
asan-run: all $(UNIT) $(ROOT_TESTS) $(HTTP_TOOLS) $(NO_DATAPATH)
	@MEGALITH_BUILD=$(BUILD) scripts/run-tests $(UNIT) $(ROOT_TESTS) --halves tests/http --pytest tests/lab

check-portable: ## compile and link for macOS and for Linux on aarch64 (cross compiler from npm)
	@scripts/check-portable

# Fuzzers, built apart: everything is compiled with coverage. Without a datapath, which they do not need.
FUZZERS = $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ    = $(FUZZERS:%=$(BUILD)/fuzz_%)
FUZZ_MAKE = $(MAKE) --no-print-directory BUILD=build/fuzz CC=$(CLANG) HARDEN="-O1 -g" \
	SANITIZE="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined" \
	DATAPATH_SRC=userspace/datapath/none.c DATAPATH_LIBS= SKELETON=
fuzz: deps ## every fuzzer, SECONDS=600 each, two at a time; FUZZERS="request scan" picks some
	@scripts/fuzz --seconds $(or $(SECONDS),600) $(FUZZERS)
fuzz-build: # what scripts/fuzz calls
	+@$(FUZZ_MAKE) fuzz-programs
fuzz-programs: $(FUZZ)
$(BUILD)/obj/fuzz/%.o: tests/fuzz/%.c
	@mkdir -p $(@D)
	$(CC) $(BASE_CFLAGS) $(PKG_CFLAGS) -Itests/fuzz $(CFLAGS) -c $< -o $@
$(FUZZ): $(BUILD)/fuzz_%: $(BUILD)/obj/fuzz/fuzz_%.o $(LIB)
	$(CC) $(BASE_LDFLAGS) $(LDFLAGS) -fsanitize=fuzzer $< $(LIB) $(LIBS) -o $@

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

SHARE   = $(DESTDIR)$(PREFIX)/share
MANDIR  = $(SHARE)/man
LAUNCHD = local.megalith.megalithd.plist
install: all ## PREFIX= DESTDIR=
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/bin $(MANDIR)/man1 $(MANDIR)/man5 $(MANDIR)/man8
	install -m 755 $(BUILD)/megalithd $(BUILD)/megalith-proxy $(DESTDIR)$(PREFIX)/sbin
	install -m 755 $(BUILD)/megalithctl $(BUILD)/megalith-simnode $(DESTDIR)$(PREFIX)/bin
	install -m 644 config/man/*.1 $(MANDIR)/man1
	install -m 644 config/man/*.5 $(MANDIR)/man5
	install -m 644 config/man/*.8 $(MANDIR)/man8
	install -d $(SHARE)/megalith $(SHARE)/bash-completion/completions $(SHARE)/zsh/site-functions
	install -m 644 config/megalith.json config/megalith.schema.json $(SHARE)/megalith
	install -m 644 config/completion/megalithctl.bash $(SHARE)/bash-completion/completions/megalithctl
	install -m 644 config/completion/_megalithctl $(SHARE)/zsh/site-functions/_megalithctl
	$(if $(filter Darwin,$(OS)),@$(MAKE) --no-print-directory install-launchd)

# Programs of macOS that nobody starts by hand are launchd's: a service of the user who installs, and folders of that user.
LAUNCHD_USER ?= $(or $(SUDO_USER),$(shell id -un))
install-launchd:
	install -d $(SHARE)/megalith $(addprefix $(DESTDIR),$(CONFIG_DIR) $(PREFIX)/var/run $(PREFIX)/var/lib $(PREFIX)/var/log)
	install -d -m 750 -o $(LAUNCHD_USER) $(addprefix $(DESTDIR),$(RUN_DIR) $(STATE_DIR) $(PREFIX)/var/log/megalith)
	sed -e 's,/usr/local/etc/megalith,$(CONFIG_DIR),; s,/usr/local,$(PREFIX),; s,>nobody<,>$(LAUNCHD_USER)<,' \
		config/launchd/$(LAUNCHD) >$(SHARE)/megalith/$(LAUNCHD)

uninstall: ## what install put there
	rm -f $(PROGRAMS:%=$(DESTDIR)$(PREFIX)/sbin/%) $(PROGRAMS:%=$(DESTDIR)$(PREFIX)/bin/%)
	rm -f $(foreach m,$(notdir $(wildcard config/man/*.[158])),$(MANDIR)/man$(subst .,,$(suffix $(m)))/$(m))
	rm -rf $(SHARE)/megalith
	rm -f $(SHARE)/bash-completion/completions/megalithctl $(SHARE)/zsh/site-functions/_megalithctl

clean: ## remove build/
	rm -rf build

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

-include $(LIB_OBJ:.o=.d) $(BUILD)/obj/datapath/none.d $(MAIN_OBJ:.o=.d) $(wildcard $(BUILD)/obj/tests/*.d $(BUILD)/obj/fuzz/*.d)
