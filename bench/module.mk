# vec-bench measures vecfs; vec-bench-peers, hnswlib and faiss beside it.  The peers need a C++ compiler,
# libhnswlib-dev and libfaiss-dev; where those are not there they are not built, and vec-bench says so.
CXX ?= g++
BENCH_SRCS := $(addprefix bench/,vec-bench.c data.c truth.c engine.c engine_library.c engine_daemon.c \
	daemon.c curve.c loads.c report.c plot.c make.c make_kinds.c)
BENCH_OBJS = $(BENCH_SRCS:%.c=$(OUT)/%.o)
BENCH_HAVE = $(if $(wildcard /usr/include/$(1)),-DHAVE_$(2))
BENCH_PEERS := $(call BENCH_HAVE,hnswlib/hnswlib.h,HNSWLIB) $(call BENCH_HAVE,faiss/IndexHNSW.h,FAISS)
BENCH_PEER_LIBS := $(if $(findstring FAISS,$(BENCH_PEERS)),-lfaiss -lblas -llapack) -fopenmp
BENCH_PROGS := vec-bench $(if $(strip $(BENCH_PEERS)),$(if $(shell command -v $(CXX)),vec-bench-peers))

$(BIN)/vec-bench: $(BENCH_OBJS) $(OUT)/cli/cli.o $(OUT)/cli/cli_io.o $(OUT)/cli/cli_client.o \
		$(OUT)/libvecfs.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(ALL_LIBS)

$(BIN)/vec-bench-peers: bench/vec-bench-peers.cc
	$(call say,CXX,$<)
	@mkdir -p $(@D)
	$(Q)$(CXX) -std=c++17 -O3 -march=native -fopenmp -Wall $(BENCH_PEERS) -o $@ $< $(BENCH_PEER_LIBS)

all: $(BENCH_PROGS:%=$(BIN)/%)
-include $(BENCH_OBJS:.o=.d)

# make bench-index: the older, shorter comparison of the library alone.
INDEX_OBJS = $(addprefix $(OUT)/bench/,bench_index.o dataset.o vecfs_system.o)
$(OUT)/bench/peers.o: bench/peers.cc bench/system.h bench/dataset.h
	$(call say,CXX,$<)
	@mkdir -p $(@D)
	$(Q)$(CXX) -std=c++17 -O3 -march=native -fopenmp -Wall $(BENCH_PEERS) -c -o $@ $<

$(BIN)/bench-index: $(INDEX_OBJS) $(OUT)/bench/peers.o $(OUT)/libvecfs.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CXX) $(ALL_LDFLAGS) -o $@ $^ $(BENCH_PEER_LIBS) $(ALL_LIBS)

.PHONY: bench bench-index
bench-index: $(BIN)/bench-index ## kernels and graph beside hnswlib and faiss, as a table
	$(Q)$(BIN)/bench-index $(BENCH_ARGS)
-include $(INDEX_OBJS:.o=.d)
# make bench-front: ingest, memory and questions end to end, through the daemon.
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
