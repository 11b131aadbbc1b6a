# protoc-c writes $(OUT)/gen/vecfs.pb-c.{c,h}; included as "vecfs.pb-c.h".
PB_C := $(OUT)/gen/vecfs.pb-c.c
PB_H := $(OUT)/gen/vecfs.pb-c.h
GEN_SRCS += $(PB_C)
GEN_HDRS += $(PB_H)

$(PB_C) $(PB_H) &: proto/vecfs.proto
	$(call say,PROTOC,$<)
	@mkdir -p $(OUT)/gen
	$(Q)protoc-c --proto_path=proto --c_out=$(OUT)/gen $<
