# make bench [BENCH_ARGS="..."] [VECFS_BENCH_DATA=DIR]: the library beside its yardsticks.  The peers need a C++
# compiler, libhnswlib-dev and libfaiss-dev; what is missing is left out of the table.
CXX ?= g++
BENCH_OBJS = $(addprefix $(OUT)/bench/,bench_index.o dataset.o vecfs_system.o)
BENCH_HAVE = $(if $(wildcard /usr/include/$(1)),-DHAVE_$(2))
BENCH_PEERS := $(call BENCH_HAVE,hnswlib/hnswlib.h,HNSWLIB) $(call BENCH_HAVE,faiss/IndexHNSW.h,FAISS)
BENCH_PEER_LIBS := $(if $(findstring FAISS,$(BENCH_PEERS)),-lfaiss -lblas -llapack) -fopenmp

$(OUT)/bench/peers.o: bench/peers.cc bench/system.h bench/dataset.h
	$(call say,CXX,$<)
	@mkdir -p $(@D)
	$(Q)$(CXX) -std=c++17 -O3 -march=native -fopenmp -Wall $(BENCH_PEERS) -c -o $@ $<

$(BIN)/bench-index: $(BENCH_OBJS) $(OUT)/bench/peers.o $(OUT)/libvecfs.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CXX) $(ALL_LDFLAGS) -o $@ $^ $(BENCH_PEER_LIBS) $(ALL_LIBS)

.PHONY: bench bench-index
bench-index: $(BIN)/bench-index ## kernels and graph beside hnswlib and faiss, as a table
	$(Q)$(BIN)/bench-index $(BENCH_ARGS)
bench: bench-index

-include $(BENCH_OBJS:.o=.d)

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
