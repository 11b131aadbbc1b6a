# The checks of make lint find what they are for: each gets a planted mistake.

setup()
{
	top=$BATS_TEST_DIRNAME/../..
	dir=$(mktemp -d "${TMPDIR:-/tmp}/vecfs-lint.XXXXXX")
	cd "$dir"
	mkdir -p lib/base lib/wal lib/store cli daemon
	echo '#include <stdint.h>' >lib/base/base.h
	echo '#include "base/base.h"' >lib/wal/wal.h
	echo '#include "wal/wal.h"' >lib/store/store.h
	echo '#include "store/store.h"' >daemon/main.c
}

teardown()
{
	cd /
	rm -rf "$dir"
}

@test "includes that point down are accepted" {
	run "$top/scripts/lint-includes.sh" .
	[ "$status" -eq 0 ]
	[ -z "$output" ]
}

@test "an include that points up is found" {
	echo '#include "store/store.h"' >>lib/wal/wal.h
	run "$top/scripts/lint-includes.sh" .
	[ "$status" -ne 0 ]
	[[ $output == *"lib/wal/wal.h:2: points up or sideways: store/store.h"* ]]
}

@test "a private header of another module is found" {
	touch lib/wal/wal_i.h
	echo '#include "wal/wal_i.h"' >>lib/store/store.h
	run "$top/scripts/lint-includes.sh" .
	[ "$status" -ne 0 ]
	[[ $output == *"private header of another module: wal/wal_i.h"* ]]
}

@test "a private header of the own module is accepted" {
	echo '#include "wal/wal.h"' >lib/wal/wal_i.h
	echo '#include "wal/wal_i.h"' >lib/wal/flush.c
	run "$top/scripts/lint-includes.sh" .
	[ "$status" -eq 0 ]
}

@test "a tool that looks past the client library is found" {
	echo '#include "store/store.h"' >cli/vec-put.c
	run "$top/scripts/lint-includes.sh" .
	[ "$status" -ne 0 ]
	[[ $output == *"tools see"* ]]
}

@test "a library that another module wraps is found" {
	echo '#include <raft.h>' >>lib/store/store.h
	run "$top/scripts/lint-includes.sh" .
	[ "$status" -ne 0 ]
	[[ $output == *"<raft.h> belongs to raft alone"* ]]
}

@test "a header that does not exist is found" {
	echo '#include "base/nothing.h"' >>lib/wal/wal.h
	run "$top/scripts/lint-includes.sh" .
	[ "$status" -ne 0 ]
	[[ $output == *'"base/nothing.h" does not exist'* ]]
}

@test "a source that includes others before its own header is found" {
	printf '#include "base/base.h"\n#include "wal/wal.h"\n' >lib/wal/wal.c
	run "$top/scripts/lint-includes.sh" .
	[ "$status" -ne 0 ]
	[[ $output == *"before its own header"* ]]
}

@test "a machine's path and a package mirror are found" {
	printf 'see /%s/x\n' work >notes.txt
	run "$top/scripts/lint-words.sh" .
	[ "$status" -ne 0 ]
	[[ $output == *notes.txt:1* ]]
	printf 'from deb.debian.%s\n' org >notes.txt
	run "$top/scripts/lint-words.sh" .
	[ "$status" -ne 0 ]
	[[ $output == *"package mirror"* ]]
}

@test "white space at a line's end is found, and nothing in a clean tree" {
	run "$top/scripts/lint-words.sh" .
	[ "$status" -eq 0 ]
	printf 'int x; \n' >lib/base/x.c
	run "$top/scripts/lint-words.sh" .
	[ "$status" -ne 0 ]
	[[ $output == *lib/base/x.c:1* ]]
}

@test "a source in no list, a dead link and an unlinked chapter are found" {
	mkdir docs
	echo 'int x;' >lib/wal/lost.c
	echo '[there](docs/nowhere.md)' >README.md
	echo 'see [a](format-a.md)' >docs/format.md
	touch docs/format-a.md docs/format-b.md
	run "$top/scripts/lint-tree.sh" <<<daemon/main.c
	[ "$status" -ne 0 ]
	[[ $output == *"lib/wal/lost.c: in no module.mk"* ]]
	[[ $output == *"README.md: link to docs/nowhere.md leads nowhere"* ]]
	[[ $output == *"docs/format-b.md: not linked"* ]]
	[[ $output != *"format-a.md"* ]]
	[[ $output != *"daemon/main.c"* ]]
}

@test "options in --help and in the manual page must agree" {
	mkdir bin man
	cat >bin/vec-try <<-'END'
		#!/bin/sh
		echo 'usage: vec-try [-k N]'
		echo '  -k, --count N    how many'
		echo '  -x, --extra      more'
		echo '  -h, --help       this text'
	END
	chmod +x bin/vec-try
	cat >man/vec-try.1 <<-'END'
		.Dd January 1, 2025
		.Dt VEC-TRY 1
		.Os
		.Sh NAME
		.Nm vec-try
		.Nd try
		.Sh DESCRIPTION
		.Bl -tag -width Ds
		.It Fl k , -count Ar N
		How many.
		.It Fl -old
		Gone.
		.El
	END
	run "$top/scripts/lint-man.sh" bin man
	[ "$status" -ne 0 ]
	[[ $output == *"-x is in --help alone"* ]]
	[[ $output == *"--extra is in --help alone"* ]]
	[[ $output == *"--old is not in --help"* ]]
	[[ $output != *"-k "* ]]
	[[ $output != *"--count"* ]]
	rm man/vec-try.1
	run "$top/scripts/lint-man.sh" bin man
	[ "$status" -ne 0 ]
	[[ $output == *"vec-try: no manual page"* ]]
}
