#!/bin/sh
# deps.sh - the Debian packages vecfs needs, and how to get them.
#
#	scripts/deps.sh build check      install what is missing for these purposes
#	scripts/deps.sh -l build         list the packages, one per line
#	scripts/deps.sh -n build check   list what is missing; status 1 when something is
#
# Purposes: build run demo check lint bench all.  Each is the whole list for that job, so
# "check" alone is enough to run the tests.  Needs nothing but dpkg, apt-get and a shell, so it
# works on a minimal installation that has neither make nor a compiler.  Where there is no dpkg
# it says what is wanted and leaves the rest to whoever runs it.
set -eu

usage()
{
	echo "usage: deps.sh [-l | -n] build|run|demo|check|lint|bench|all..." >&2
	exit 2
}

packages()
{
	case $1 in
	build) echo "gcc make pkg-config libc6-dev libfuse3-dev libsqlite3-dev liburing-dev
		libsimde-dev libxxhash-dev libraft-dev libuv1-dev libprotobuf-c-dev
		protobuf-c-compiler libjansson-dev libzstd-dev
		libcurl4-openssl-dev libinih-dev libsystemd-dev" ;;
	run) echo "fuse3 procps mount ca-certificates" ;;
	demo) packages build && packages run && echo "jq" ;;
	check) packages demo && packages lint && echo "libcmocka-dev bats patch libclang-rt-dev
		python3 strace git file rsync sqlite3 e2fsprogs xfsprogs parallel vim util-linux
		gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user" ;;
	lint) packages build && echo "clang clang-format clang-tidy cppcheck shellcheck mandoc" ;;
	bench) packages demo && echo "g++ libhnswlib-dev libfaiss-dev gnuplot-nox zstd python3"
		;;
	all) packages check && packages bench && echo "gcovr valgrind" ;;
	*) usage ;;
	esac
}

mode=install
case ${1-} in
-l) mode=list && shift ;;
-n) mode=missing && shift ;;
-*) usage ;;
esac
[ $# -gt 0 ] || usage
for purpose; do
	packages "$purpose" >/dev/null
done
wanted=$(for purpose; do packages "$purpose"; done | tr -s '[:space:]' '\n' | sed '/^$/d' | sort -u)

if [ $mode = list ]; then
	echo "$wanted"
	exit 0
fi
if ! command -v dpkg-query >/dev/null 2>&1; then
	[ $mode = install ] || exit 0
	echo "deps: no dpkg here; these Debian packages (or what your system calls them) are needed:" >&2
	echo "$wanted" | fmt >&2 2>/dev/null || echo "$wanted" >&2
	exit 0
fi

# A package that another one provides (gcc-12's "c-compiler") is not asked for here: every name
# above is a real package, so its own status is the whole answer.
missing()
{
	for pkg in $wanted; do
		case $(dpkg-query -W -f '${db:Status-Status}' "$pkg" 2>/dev/null) in
		installed*) ;;
		*) echo "$pkg" ;;
		esac
	done
}

todo=$(missing)
if [ $mode = missing ]; then
	[ -z "$todo" ] && exit 0
	echo "$todo"
	exit 1
fi
[ -n "$todo" ] || exit 0

# --- install --------------------------------------------------------------------------------
if [ "$(id -u)" != 0 ]; then
	if ! command -v sudo >/dev/null 2>&1; then
		echo "deps: missing packages, and neither root nor sudo to install them:" >&2
		echo "$todo" | tr '\n' ' ' >&2
		echo >&2
		exit 1
	fi
	exec sudo sh "$0" "$@"
fi
export DEBIAN_FRONTEND=noninteractive

dir=$(mktemp -d "${TMPDIR:-/tmp}/vecfs-deps.XXXXXX")
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Runs apt-get with its chatter in $dir/log and its progress on one line of stderr: rewritten in
# place on a terminal, otherwise one line for each fifth of the way.
apt()
{
	{
		rc=0
		# Descriptor 3 is the pipe; maintainer scripts want a plain stdout of their own.
		apt-get -q -y -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 -o APT::Status-Fd=3 \
			"$@" 3>&1 >>"$dir/log" 2>&1 </dev/null || rc=$?
		echo "$rc" >"$dir/rc"
	} | progress
	return "$(cat "$dir/rc")"
}

progress()
{
	tty=0
	[ ! -t 2 ] || tty=1
	awk -F: -v tty=$tty '
		/^(dlstatus|pmstatus):/ {
			part = $1 == "dlstatus" ? "download" : "install"
			p = int($3)
			if (tty)
				printf "\r  %-9s %3d%%  %-50.50s", part, p, $4 | "cat 1>&2"
			else if (part != last || p >= next_p) {
				printf "  %-9s %3d%%\n", part, p | "cat 1>&2"
				next_p = p - p % 20 + 20
				last = part
			}
			if (tty)
				fflush("cat 1>&2")
		}
		END { if (tty && NR) printf "\r%70s\r", "" | "cat 1>&2" }'
}

failed()
{
	echo "deps: apt-get $1 failed; its last words:" >&2
	tail -n 15 "$dir/log" >&2
	exit 1
}

n=$(echo "$todo" | wc -l)
echo "deps: installing $n package(s): $(echo "$todo" | tr '\n' ' ')" >&2

# The package lists are fetched only when the ones here do not do: when they do not know a name,
# or when a mirror no longer has what they speak of.
# shellcheck disable=SC2086 # the list is meant to be split
if ! apt-get -s -q install --no-install-recommends $todo >/dev/null 2>&1; then
	echo "deps: updating the package lists" >&2
	apt update || failed update
fi
# shellcheck disable=SC2086
if ! apt install --no-install-recommends $todo; then
	echo "deps: trying again with fresh package lists" >&2
	apt update || failed update
	apt install --no-install-recommends $todo || failed install
fi
left=$(missing)
if [ -n "$left" ]; then
	echo "deps: still missing: $(echo "$left" | tr '\n' ' ')" >&2
	exit 1
fi
