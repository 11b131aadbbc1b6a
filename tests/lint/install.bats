# make install puts everything where it belongs, and make uninstall takes all of it away.

setup()
{
	top=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
	dest=$(mktemp -d "${TMPDIR:-/tmp}/vecfs-install.XXXXXX")
	[ -n "${VECFS_BIN:-}" ] || VECFS_BIN=$top/build/release/bin
	out=${VECFS_BIN%/*/bin}
}

teardown()
{
	rm -rf "$dest"
}

in_tree()
{
	env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS make --no-print-directory -C "$top" O="$out" \
		VARIANT="${VECFS_VARIANT:-release}" DESTDIR="$dest" "$@"
}

@test "install for the system, and uninstall" {
	in_tree install PREFIX=/usr
	[ -x "$dest/usr/sbin/vecfsd" ]
	[ -x "$dest/sbin/mount.vecfs" ]
	for tool in "$VECFS_BIN"/vec-*; do
		[ -x "$dest/usr/bin/${tool##*/}" ]
	done
	[ -f "$dest/usr/share/man/man8/vecfsd.8" ]
	[ -f "$dest/usr/share/man/man5/vecfs.conf.5" ]
	grep -q '^ExecStart=/usr/sbin/vecfsd ' "$dest/usr/lib/systemd/system/vecfs.service"
	! grep -r '@[A-Z]*@' "$dest/usr/lib/systemd"
	[ ! -e "$dest$top" ] # nothing went where the clone lies
	in_tree uninstall PREFIX=/usr
	[ -z "$(find "$dest" ! -type d)" ]
}

@test "install elsewhere keeps the mount helper under the prefix" {
	in_tree install PREFIX=/opt/vecfs
	[ -x "$dest/opt/vecfs/sbin/mount.vecfs" ]
	[ ! -e "$dest/sbin" ]
	"$dest/opt/vecfs/sbin/vecfsd" --version
}
