#!/bin/sh
# need-fuse.sh - makes sure that /dev/fuse is there and can be used; says why not otherwise.
#
# In a chroot or container run by root the node may simply be missing: it is made then, and its name
# is printed on stdout so that the caller can take it away again.
set -u
dev=/dev/fuse

if [ ! -e $dev ]; then
	if [ "$(id -u)" != 0 ]; then
		echo "there is no $dev; as root: modprobe fuse, or mknod -m 666 $dev c 10 229" >&2
		exit 1
	fi
	modprobe fuse 2>/dev/null
	if [ ! -e $dev ]; then
		mknod -m 666 $dev c 10 229 || exit 1
		echo $dev
	fi
fi
if ! (: <>$dev) 2>/dev/null; then
	echo "$dev cannot be opened: this kernel or container has no FUSE for $(id -un)" >&2
	echo "(docker: --device /dev/fuse --cap-add SYS_ADMIN)" >&2
	exit 1
fi
