#!/usr/bin/env bats
# The calls of POSIX, errno by errno (posix.c).
load helper

@test "POSIX calls do what the manual says, with their errnos" {
	run "$VECFS_BIN/../tests/mount/posix" "$D"
	echo "$output"
	[ "$status" -eq 0 ]
	[ "$(grep -c '^ok ' <<<"$output")" -ge 19 ]
	# What the daemon refused stands in its log; a name that is looked for and is not there is no refusal.
	grep -q "EPERM $C/vec/l.json: only regular files" "$MNT/.vecfs/error_log"
	grep -q "EXDEV $C/vec/r2.json: " "$MNT/.vecfs/error_log"
	grep -q "EBADMSG $C/vec/.s2: " "$MNT/.vecfs/error_log"
	grep -q "EBADMSG $C/q/two: a question's name" "$MNT/.vecfs/error_log"
	grep -q "ESTALE .*/append: " "$MNT/.vecfs/error_log"
}
