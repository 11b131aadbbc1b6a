# vec-bench measures vecfs; vec-bench-peers, hnswlib and faiss beside it.  The peers need a C++ compiler,
# libhnswlib-dev and libfaiss-dev; where those are not there they are not built, and vec-bench says so.
CXX ?= g++
BENCH_SRCS := $(addprefix bench/,vec-bench.c data.c truth.c engine.c engine_library.c engine_daemon.c \
	daemon.c curve.c floor.c loads.c report.c plot.c make.c make_kinds.c)
BENCH_OBJS = $(BENCH_SRCS:%.c=$(OUT)/%.o)
BENCH_HAVE = $(if $(wildcard /usr/include/$(1)),-DHAVE_$(2))
BENCH_PEERS := $(call BENCH_HAVE,hnswlib/hnswlib.h,HNSWLIB) $(call BENCH_HAVE,faiss/IndexHNSW.h,FAISS)
BENCH_PEER_LIBS := $(if $(findstring FAISS,$(BENCH_PEERS)),-lfaiss -lblas -llapack) -fopenmp
# Not beside the tools: it is no command for people.
BENCH_LIBEXEC := $(OUT)/libexec/vecfs
BENCH_HELPERS := $(if $(strip $(BENCH_PEERS)),$(if $(shell command -v $(CXX)),vec-bench-peers))
BENCH_PROGS := vec-bench
bench_all = $(BENCH_PROGS:%=$(BIN)/%) $(BENCH_HELPERS:%=$(BENCH_LIBEXEC)/%)

$(BIN)/vec-bench: $(BENCH_OBJS) $(OUT)/cli/cli.o $(OUT)/cli/cli_io.o $(OUT)/cli/cli_client.o \
		$(OUT)/libvecfs.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(ALL_LIBS)

$(BENCH_LIBEXEC)/vec-bench-peers: bench/peers.cc
	$(call say,CXX,$<)
	@mkdir -p $(@D)
	$(Q)$(CXX) -std=c++17 -O3 -march=native -fopenmp -Wall $(BENCH_PEERS) -o $@ $< $(BENCH_PEER_LIBS)

all: $(bench_all)
-include $(BENCH_OBJS:.o=.d)

# make bench [VECFS_BENCH_DATA=DIR]: the sets found in DIR, and generated ones of full size; bench/run.sh says which.
# BENCH_ARGS goes to every vec-bench.  make bench-index is the library beside the peers alone.
export BENCH_SETS
bench_run = VECFS_BIN=$(abspath $(BIN)) VECFS_BENCH_DATA="$(VECFS_BENCH_DATA)" OUT=$(abspath $(O))/bench \
	bench/run.sh
.PHONY: bench bench-quick bench-index
bench: all ## vecfs beside hnswlib and faiss on VECFS_BENCH_DATA and generated sets: tables, JSON, plots
	$(Q)$(bench_run) full $(BENCH_ARGS)
bench-quick: all ## the same on small generated sets, in some minutes
	$(Q)$(bench_run) quick $(BENCH_ARGS)
bench-index: $(bench_all) ## the library alone beside hnswlib and faiss, on VECFS_BENCH_DATA
	$(Q)$(bench_run) index $(BENCH_ARGS)

# make bench-front: the way in alone, and what it costs beside the library, on one set.
$(BIN)/bench-front: $(OUT)/bench/bench_front.o $(OUT)/libvecfs.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(ALL_LIBS)

BENCH_BASE ?= $(VECFS_BENCH_DATA)/sift-200k.base.bvecs
BENCH_QUERY ?= $(VECFS_BENCH_DATA)/sift-200k.query.bvecs
BENCH_METRIC ?= l2
.PHONY: bench-front
bench-front: all $(BIN)/bench-front ## ingest, memory and questions through the daemon
	$(Q)VECFS_BIN=$(abspath $(BIN)) bench/front.sh $(BENCH_BASE) $(BENCH_QUERY) $(BENCH_METRIC)

# make bench-restart [BENCH_RESTART=FILE.bvecs]: from exec to the first right answer, after each kind of end.
.PHONY: bench-restart
bench-restart: all ## start to first answer after a clean stop, kill -9, new records; checkpoint loading
	$(Q)VECFS_BIN=$(abspath $(BIN)) bench/restart.sh $(BENCH_RESTART)

# make bench-wal BENCH_WAL_DIR=DIR: a durable append, io_uring and pwrite turn by turn.
$(BIN)/bench-wal: $(OUT)/bench/wal_append.o $(OUT)/libvecfs.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(ALL_LIBS)

BENCH_WAL_DIR ?= $(O)/bench-wal.tmp
.PHONY: bench-wal
bench-wal: $(BIN)/bench-wal ## one durable append, io_uring and pwrite turn by turn
	$(Q)$(BIN)/bench-wal $(BENCH_WAL_DIR) $(BENCH_ARGS)
-include $(OUT)/bench/wal_append.d
