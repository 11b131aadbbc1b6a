# The scripts around the code: the test runner's sums, the mount helper, the paragraph cutter.

setup()
{
	top=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
	dir=$(mktemp -d "${TMPDIR:-/tmp}/vecfs-scripts.XXXXXX")
	cd "$dir"
	unset CI
	run_tests=$top/scripts/run-tests.sh
}

teardown()
{
	cd /
	rm -rf "$dir"
}

@test "run-tests counts passed, failed and skipped commands" {
	run "$run_tests" -l log -j 2 a=true b=false 'c=echo no fuse; exit 77'
	[ "$status" -ne 0 ]
	run "$run_tests" -S log
	[ "$status" -ne 0 ]
	[ "${lines[0]}" = "1 skipped" ]
	[ "${lines[1]}" = "1 passed, 1 failed" ]
}

@test "run-tests takes a command that ends with a bats file for a command" {
	run "$run_tests" -l log 'in-env=true --tap some.bats'
	[ "$status" -eq 0 ]
	[[ $output == *"in-env "*" 1 passed"* ]]
}

@test "run-tests counts a skip as a failure where CI is set" {
	CI=1 run "$run_tests" -l log 'c=exit 77'
	[ "$status" -ne 0 ]
	CI=1 run "$run_tests" -S log
	[ "$status" -ne 0 ]
	[ "${lines[1]}" = "0 passed, 1 failed" ]
}

@test "run-tests finds the test that died, and the one that never ran" {
	printf '#!/bin/sh\necho 1..3\necho ok 1 - one\nprintf "half a line"\necho ok 2 - two\nkill -SEGV $$\n' >dies
	printf '#!/bin/sh\necho 1..2\necho ok 1 - one\n' >stops
	printf '#!/bin/sh\nexit 0\n' >empty
	chmod +x dies stops empty
	run "$run_tests" -l log ./dies
	[ "$status" -ne 0 ]
	[[ $output == *"2 passed, 1 failed"* ]]
	run "$run_tests" -l log ./stops
	[ "$status" -ne 0 ]
	[[ $output == *"1 passed, 1 failed"* ]]
	run "$run_tests" -l log ./empty
	[ "$status" -ne 0 ]
}

@test "run-tests stops what takes too long" {
	run "$run_tests" -l log -t 1 'slow=sleep 20'
	[ "$status" -ne 0 ]
	[[ $output == *"stopped after 1 s"* ]]
}

@test "no results at all are a failure" {
	mkdir log
	run "$run_tests" -S log
	[ "$status" -ne 0 ]
	[ "${lines[0]}" = "0 passed, 1 failed" ]
}

@test "a target that does not build counts as one failure" {
	printf 'good:\n\ttrue\nbroken:\n\tfalse\n' >Makefile
	run "$top/scripts/check-all.sh" out good broken
	[ "$status" -ne 0 ]
	[ "${lines[-1]}" = "0 passed, 1 failed" ]
}

@test "mount.vecfs turns mount options into those of vecfsd" {
	export VECFSD=/bin/echo
	run "$top/cli/mount.vecfs" /data /mnt -o rw,noatime,allow_other=no,shards=4,x-systemd.automount -n
	[ "$status" -eq 0 ]
	[ "$output" = "--daemonize --allow-other=no --shards=4 /data /mnt" ]
	run "$top/cli/mount.vecfs" data /mnt
	[ "$output" = "--daemonize $PWD/data /mnt" ]
}

@test "mount.vecfs refuses ro, keeps the daemon's verdict, and can pretend" {
	VECFSD=/bin/true run "$top/cli/mount.vecfs" /data /mnt -o ro
	[ "$status" -eq 1 ]
	VECFSD=/bin/false run "$top/cli/mount.vecfs" /data /mnt
	[ "$status" -eq 32 ]
	VECFSD=/bin/false run "$top/cli/mount.vecfs" /data /mnt -f
	[ "$status" -eq 0 ]
	run "$top/cli/mount.vecfs" /data
	[ "$status" -eq 1 ]
}

@test "mount.vecfs -s leaves out what vecfsd does not have" {
	printf '#!/bin/sh\n[ "$1" != --help ] || { echo "      --shards N   groups"; exit; }\necho "$@"\n' >d
	chmod +x d
	VECFSD=$PWD/d run "$top/cli/mount.vecfs" /data /mnt -s -o shards=2,colour=red
	[ "$output" = "--daemonize --shards=2 /data /mnt" ]
}

@test "deps.sh lists packages and knows what is missing" {
	run "$top/scripts/deps.sh" -l build
	[ "$status" -eq 0 ]
	[[ $output == *libfuse3-dev* ]]
	[[ $output != *bats* ]]
	run "$top/scripts/deps.sh" nonsense
	[ "$status" -eq 2 ]
	run "$top/scripts/deps.sh"
	[ "$status" -eq 2 ]
}

@test "paragraphs.awk makes JSON records of manual pages and Markdown" {
	cat >tool.1 <<-'END'
		.Dd January 1, 2025
		.Dt TOOL 1
		.Os
		.Sh NAME
		.Nm tool
		.Nd say "hello" to a world that is long enough to count
		.Sh OPTIONS
		.Bl -tag -width Ds
		.It Fl k , -count Ar N
		How many answers are wanted from
		.Xr vec-query 1 ;
		a \e is kept.
		.El
		.Bd -literal
		none of this literal text is to be seen in the output
		.Ed
	END
	cat >notes.md <<-'END'
		# The `title`

		First paragraph, which runs over two
		lines and has "quotes" in it.

		```
		a block of code that is left out, since nobody asks for it
		```
		- an item with a [link](elsewhere.md) that stands for itself
	END
	awk -f "$top/scripts/paragraphs.awk" tool.1 notes.md >out.jsonl
	[ "$(jq -r .id out.jsonl | tr '\n' ' ')" = "tool.1#1 tool.1#2 notes.md#1 notes.md#2 " ]
	[ "$(sed -n 2p out.jsonl | jq -r .text)" = \
		'tool(1), OPTIONS: -k, --count N - How many answers are wanted from vec-query(1); a \ is kept.' ]
	[ "$(sed -n 3p out.jsonl | jq -r .text)" = \
		'notes.md, The title: First paragraph, which runs over two lines and has "quotes" in it.' ]
	! grep -q -e literal -e code out.jsonl
}
