#!/bin/sh
# lint-includes.sh - the include graph points one way (ARCHITECTURE.md has the picture).
#
#	lint-includes.sh [ROOT]
#
# A file of a module may include public headers of its own layer's lower neighbours alone, private
# headers (*_i.h) of its own module alone, and names every project header as "module/name.h".
# Libraries that one module wraps for all the others are included by that module alone.
set -eu
cd "${1:-.}"

# shellcheck disable=SC2016 # an awk program
find lib daemon cli -name '*.[ch]' 2>/dev/null | sort | xargs -r awk '
	BEGIN {
		# The layers, lowest first.  Modules of one layer do not see each other, but for the
		# index interface and the graph behind it, which are one thing in two directories.
		n = split("base|codec simd|embed|wal|rpc|client raft|index hnsw|store|query|cluster|daemon",
			layer, "|")
		for (i = 1; i <= n; i++) {
			m = split(layer[i], mod, " ")
			for (j = 1; j <= m; j++)
				rank[mod[j]] = i
		}
		split("base codec embed rpc client", tmp, " ")
		for (i in tmp)
			cli_may[tmp[i]] = 1
		# These two look at a data directory without a daemon.
		offline["cli/vec-fsck.c", "cluster/fsck.h"] = 1
		offline["cli/vec-fsck.c", "store/verify.h"] = 1
		offline["cli/vec-wal.c", "wal/wal_view.h"] = 1
		offline["cli/vec-wal.c", "store/entry.h"] = 1
		owner["raft.h"] = "raft"
		owner["liburing.h"] = "wal"
		owner["fuse_lowlevel.h"] = "daemon"
		owner["fuse3/fuse_lowlevel.h"] = "daemon"
		owner["fuse.h"] = "daemon"
		owner["curl/curl.h"] = "embed"
		owner["immintrin.h"] = "simd"
	}
	FNR == 1 {
		split(FILENAME, part, "/")
		me = part[1] == "lib" ? part[2] : part[1]
		own = FILENAME
		sub(/^lib\//, "", own)
		sub(/\.c$/, ".h", own)
		first = 1
		if (part[1] == "lib" && !(me in rank))
			bad("module " me " has no layer in scripts/lint-includes.sh")
	}
	/^[ \t]*#[ \t]*include[ \t]*"/ {
		split($0, q, "\"")
		inc = q[2]
		if (inc !~ /\// && part[1] != "lib")
			inc = me "/" inc # programs may name their own headers plainly
		# Its own header comes first, or a private one of the module that builds on it.
		if (first && FILENAME ~ /\.c$/ && inc != own && inc !~ ("^" me "/.*_i\\.h$") && exists(own))
			bad("includes \"" inc "\" before its own header")
		first = 0
		if (inc ~ /\.pb-c\.h$/) {
			if (me != "rpc" && me != "client" && me != "daemon" && me != "cli")
				bad("the wire messages belong to lib/rpc: " inc)
			next
		}
		if (inc !~ /\//) {
			bad("\"" inc "\" is not written as \"module/name.h\"")
			next
		}
		to = inc
		sub(/\/.*/, "", to)
		if (!exists(inc)) {
			bad("\"" inc "\" does not exist")
			next
		}
		if (to == me)
			next
		if ((me == "index" && to == "hnsw") || (me == "hnsw" && to == "index"))
			next
		if (inc ~ /_i\.h$/)
			bad("private header of another module: " inc)
		if (me == "cli") {
			if (!(to in cli_may) && !((FILENAME, inc) in offline))
				bad("tools see base, codec, embed, rpc and client alone: " inc)
			next
		}
		if (!(to in rank))
			bad("nothing in the library may include " inc)
		else if (rank[to] >= rank[me])
			bad("points up or sideways: " inc)
	}
	/^[ \t]*#[ \t]*include[ \t]*</ {
		split($0, q, /[<>]/)
		if (q[2] in owner && owner[q[2]] != me)
			bad("<" q[2] "> belongs to " owner[q[2]] " alone")
	}
	# Whether a project header named as in an #include is there.
	function exists(name,	f, line, ok) {
		if (name in known)
			return known[name]
		f = (name ~ /^(daemon|cli)\//) ? name : "lib/" name
		ok = (getline line < f) >= 0
		close(f)
		return known[name] = ok
	}
	function bad(why) {
		printf "%s:%d: %s\n", FILENAME, FNR, why
		failed = 1
	}
	END { exit failed }
'
