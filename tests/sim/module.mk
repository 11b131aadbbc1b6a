SIM_BIN := $(OUT)/tests/sim/simulate
SIM_SRCS := $(addprefix tests/sim/,sim.c sim_check.c sim_clock.c sim_fault.c sim_log.c sim_store.c \
	sim_trace.c) tests/wal/fakedisk.c
TEST_COMMON_sim := $(SIM_SRCS) tests/sim/scenario.c
TESTS += sim/test_replay
# The directed cases of the guard run on the same simulator.
$(addprefix $(OUT)/tests/raft/,test_guard test_member): $(SIM_SRCS:%.c=$(OUT)/%.o)
