#!/usr/bin/env bats
# snapshots/: mkdir takes one, rmdir removes it, its files are plain and read-only.

load helper

@test "mkdir takes a snapshot that tar reads, rmdir removes it" {

	for i in 1 2 3; do echo "[$i, 1]" >"$D/vec/r$i.json"; done
	[ -z "$(ls "$D/snapshots")" ]
	mkdir "$D/snapshots/one"
	[ "$(ls "$D/snapshots")" = one ]
	grep -q '^vecfs-snapshot 1$' "$D/snapshots/one/manifest"
	tar -C "$D/snapshots" -cf "$BATS_TEST_TMPDIR/one.tar" one
	tar -C "$BATS_TEST_TMPDIR" -xf "$BATS_TEST_TMPDIR/one.tar"
	diff -r "$D/snapshots/one" "$BATS_TEST_TMPDIR/one"
	run ! mkdir "$D/snapshots/one"
	run ! sh -c "echo x >'$D/snapshots/one/manifest'"
	run ! rm "$D/snapshots/one/manifest"
	run ! touch "$D/snapshots/new"
	rmdir "$D/snapshots/one"
	run ! test -e "$D/snapshots/one"
	run ! rmdir "$D/snapshots"
}
