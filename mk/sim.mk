# mk/sim.mk: the simulator of the consensus (tests/sim).
#
#	make check-sim SEED=1 SEEDS=10000        many seeds, in JOBS processes
#	make check-sim SEED=4711 SEEDS=1 TRACE=1 one of them again, event by event
#	make check-sim-mutations                 every planted bug is found
SEED ?= 1
SEEDS ?= 2000

$(SIM_BIN): $(OUT)/tests/sim/simulate.o $(TEST_COMMON_sim:%.c=$(OUT)/%.o) $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(LIB) $(ALL_LIBS)

# Of 'make check'.
SIM_ITEM = 'sim-seeds=SEED=1 SEEDS=1500 JOBS=$(JOBS) $(SIM_BIN)'

.PHONY: check-sim check-sim-long check-sim-mutations check-long
check-long: check-sim-long check-sim-mutations
check-sim-long: ## a hundred thousand seeds of it
	+$(Q)$(MAKE) --no-print-directory check-sim SEED=1 SEEDS=100000
check-sim: $(SIM_BIN) ## the consensus simulator: SEED=first SEEDS=n TRACE=1
	$(Q)SEED=$(SEED) SEEDS=$(SEEDS) JOBS=$(JOBS) TRACE=$(TRACE) $(SIM_BIN)

-include $(OUT)/tests/sim/simulate.d
MUTATION_SEEDS ?= 20000
MUTATIONS ?= $(sort $(wildcard tests/sim/mutations/*.patch))
SIM_DIRECTED = $(addprefix $(OUT)/tests/raft/,test_guard test_member)
check-sim-mutations: $(SIM_BIN) $(SIM_DIRECTED) ## bugs planted in the log and the consensus are found by the simulator
	$(Q)LIBS="$(ALL_LIBS)" JOBS=$(JOBS) tests/sim/mutate.sh $(OUT)/mutants $(MUTATION_SEEDS) \
		'$(CC) $(filter-out -MMD -MP,$(ALL_CFLAGS))' '$(CC) $(ALL_LDFLAGS)' $(LIB) \
		$(OUT)/tests/sim/simulate.o $(TEST_COMMON_sim:%.c=$(OUT)/%.o) -- $(SIM_DIRECTED:=.o) -- $(MUTATIONS)
