#!/bin/sh
# lint-man.sh - every program has a manual page, and the two agree on the options.
#
#	lint-man.sh BINDIR MANDIR
#
# What --help shows as an option (at the start of a line, or after a comma there) must be described
# in the page, and every option that heads an entry of the page's lists must be in --help.
set -eu
bin=$1 man=$2
rc=0

# The options that head a line: "-k, --count N  text" or "-k N, --count N".
heads()
{
	awk '
		/^[ \t]*-/ {
			sub(/^[ \t]+/, "")
			# Cut the description off: it is set apart by two blanks or more.
			sub(/(  |\t).*/, "")
			n = split($0, w, /[ ,|=\[]+/)
			for (i = 1; i <= n; i++)
				if (w[i] ~ /^(-[A-Za-z0-9]|--[a-z][a-z0-9-]*)$/)
					print w[i]
		}' | sort -u
}

for prog in "$bin"/*; do
	name=${prog##*/}
	[ -x "$prog" ] || continue
	case $name in
	vecfsd | vec-*) ;;
	*) continue ;;
	esac
	page=$(find "$man" -name "$name.[18]" | head -n 1)
	if [ -z "$page" ]; then
		echo "$name: no manual page"
		rc=1
		continue
	fi
	if ! help=$("$prog" --help 2>&1); then
		echo "$name: --help fails"
		rc=1
		continue
	fi
	text=$(mandoc -T ascii -O width=100 "$page" | sed 's/.\x08//g')
	for o in $(echo "$help" | heads); do
		case $o in
		-h | --help | -V | --version) continue ;;
		esac
		printf '%s\n' "$text" | grep -qE -e "(^|[^a-z0-9-])$o([^a-z0-9-]|\$)" || {
			echo "$page: $o is in --help alone"
			rc=1
		}
	done
	for o in $(printf '%s\n' "$text" | heads); do
		printf '%s\n' "$help" | grep -qE -e "(^|[^a-z0-9-])$o([^a-z0-9-]|\$)" || {
			echo "$page: $o is not in --help"
			rc=1
		}
	done

	# What the daemon takes from its file is in the page of the file, too.
	if [ "$name" = vecfsd ] && [ -f "$man/vecfs.conf.5" ]; then
		for o in $(echo "$help" | heads | sed -n 's/^--//p'); do
			case $o in
			config | daemonize | help | version) continue ;;
			esac
			grep -q "^\.It Ic $o No =" "$man/vecfs.conf.5" || {
				echo "$man/vecfs.conf.5: $o is missing"
				rc=1
			}
		done
	fi
done
exit $rc
