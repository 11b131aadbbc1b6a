#!/usr/bin/env bats
# inbox/, done/, failed/: files of records.
load helper

lines() { # FROM TO: JSON Lines
	seq "$1" "$2" | sed 's/.*/{"id":"r&","vector":[&,1,2]}/'
}

count() {
	awk '$1 == "count" {print $2}' "$D/stats"
}

@test "cp into inbox/ commits, and a receipt says what" {
	lines 1 500 >"$BASE/f.jsonl"
	cp "$BASE/f.jsonl" "$D/inbox/"
	same "$(count)" 500
	same "$(ls "$D/inbox")" ""
	same "$(ls "$D/done")" f.jsonl.json
	same "$(jq -c '[.file,.accepted,.inserted,.updated,.rejected,.bytes]' "$D/done/f.jsonl.json")" \
		"[\"f.jsonl\",500,500,0,0,$(stat -c %s "$BASE/f.jsonl")]"
	[[ "$(jq -r .xxh3 "$D/done/f.jsonl.json")" =~ ^[0-9a-f]{16}$ ]]
	[ "$(jq .index "$D/done/f.jsonl.json")" -gt 0 ]
	same "$(stat -c %s "$D/done/f.jsonl.json")" "$(cat "$D/done/f.jsonl.json" | wc -c)"
}

@test "the receipt's checksum tells files apart, however they were written" {
	lines 1 50 >"$BASE/x.jsonl"
	cp "$BASE/x.jsonl" "$D/inbox/one.jsonl"
	dd if="$BASE/x.jsonl" of="$D/inbox/two.jsonl" bs=13 2>/dev/null
	cp "$BASE/x.jsonl" "$D/inbox/.three"
	mv "$D/inbox/.three" "$D/inbox/three.jsonl"
	lines 1 51 >"$D/inbox/four.jsonl"
	same "$(jq -r .xxh3 "$D"/done/{one,two,three}.jsonl.json | sort -u | wc -l)" 1
	[ "$(jq -r .xxh3 "$D/done/one.jsonl.json")" != "$(jq -r .xxh3 "$D/done/four.jsonl.json")" ]
}

@test "a file without a newline at its end is complete" {
	printf '{"id":"a","vector":[1,2,3]}\n{"id":"b","vector":[1,2,4]}' >"$D/inbox/n.jsonl"
	same "$(count)" 2
}

@test "resubmitting a file changes nothing but the receipt" {
	lines 1 20 >"$BASE/f.jsonl"
	cp "$BASE/f.jsonl" "$D/inbox/"
	cp "$BASE/f.jsonl" "$D/inbox/"
	same "$(count)" 20
	same "$(jq -c '[.inserted,.updated]' "$D/done/f.jsonl.json")" '[0,20]'
}

@test "a file larger than a batch streams in" {
	python3 - >"$BASE/big.jsonl" <<-'PY'
		for i in range(20000):
		    print('{"id":"r%d","vector":[%d.5,1,2],"text":"%s"}' % (i, i, "x" * 100))
	PY
	cp "$BASE/big.jsonl" "$D/inbox/"
	same "$(count)" 20000
	same "$(jq .accepted "$D/done/big.jsonl.json")" 20000
}

@test "records arrive while the file is still being written" {
	exec 5>"$D/inbox/slow.jsonl"
	lines 1 3 >&5
	# The shell's redirection flushes, and a flush commits what is complete.
	same "$(count)" 3
	same "$(jq .accepted "$D/done/slow.jsonl.json")" 3
	lines 4 5 >&5
	exec 5>&-
	same "$(count)" 5
	same "$(jq .accepted "$D/done/slow.jsonl.json")" 5
	same "$(ls "$D/inbox")" ""
}

@test "tsv, fvecs, bvecs, fbin and npy" {
	printf 'a\t1 2 3\nb\t4,5,6\t{"k":1}\tsome text\n' >"$D/inbox/f.tsv"
	same "$(count)" 2
	same "$(jq -c '[.meta.k,.text]' "$D/vec/b.json")" '[1,"some text"]'
	python3 - "$BASE" <<-'PY'
		import struct, sys
		b = sys.argv[1] + "/"
		rows = [(1, 2, 3), (4, 5, 6)]
		open(b + "f.fvecs", "wb").write(b"".join(struct.pack("<i3f", 3, *r) for r in rows))
		open(b + "f.bvecs", "wb").write(b"".join(struct.pack("<i3B", 3, *r) for r in rows))
		open(b + "f.fbin", "wb").write(struct.pack("<II", 2, 3) + b"".join(struct.pack("<3f", *r) for r in rows))
		h = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"
		h += b" " * (64 - (10 + len(h) + 1) % 64) + b"\n"
		open(b + "f.npy", "wb").write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(h)) + h + b"".join(struct.pack("<3f", *r) for r in rows))
	PY
	for s in fvecs bvecs fbin npy; do
		rm -f "$D"/vec/*.json
		cp "$BASE/f.$s" "$D/inbox/"
		same "$s $(count)" "$s 2"
		same "$(jq -c .vector "$D/vec/1.json")" '[4,5,6]'
	done
}

@test "bad records are skipped into failed/, and cost no other" {
	three
	cat >"$BASE/m.jsonl" <<-'EOT'
		{"id":"g1","vector":[1,2,3]}
		{"id":"bad1","vector":[1,2]}
		not json at all
		{"id":"g2","vector":[4,5,6]}
		{"vector":[1,2,3]}
	EOT
	cp "$BASE/m.jsonl" "$D/inbox/"
	same "$(count)" 5
	same "$(jq -c '[.accepted,.rejected]' "$D/done/m.jsonl.json")" '[2,3]'
	same "$(ls "$D/failed" | tr '\n' ' ')" "m.jsonl m.jsonl.err "
	same "$(wc -l <"$D/failed/m.jsonl")" 3
	grep -q 'not json at all' "$D/failed/m.jsonl"
	same "$(cut -d: -f1 "$D/failed/m.jsonl.err" | tr '\n' ' ')" "2 3 5 "
	same "$(grep -c "EINVAL $C/inbox/m.jsonl:[235]: " "$MNT/.vecfs/error_log")" 3
	# Mended and submitted again, the rejects are gone.
	sed -i '2,3d; $d' "$BASE/m.jsonl"
	cp "$BASE/m.jsonl" "$D/inbox/"
	same "$(ls "$D/failed")" ""
}

@test "a rejected line of TSV is kept as it can be submitted again" {
	three
	printf 'x\t0,0,0\t{"k":1}\ttwo\\nlines\\tand a tab\n' >"$BASE/r.tsv"
	fails "Invalid argument" cp "$BASE/r.tsv" "$D/inbox/"
	same "$(jq .rejected "$D/done/r.tsv.json")" 1
	cmp "$D/failed/r.tsv" "$BASE/r.tsv"
}

@test "a file of which every record is refused is a failure" {
	three
	seq 1 300 | sed 's/.*/{"id":"r&","vector":[&,1]}/' >"$BASE/wrong.jsonl"
	fails "Invalid argument" cp "$BASE/wrong.jsonl" "$D/inbox/"
	grep -qE "EINVAL $C/inbox/wrong.jsonl: none of 300 records" "$MNT/.vecfs/error_log"
	# Ten of them have a line of their own.
	same "$(wc -l <"$MNT/.vecfs/error_log")" 11
	same "$(jq -c '[.accepted,.rejected]' "$D/done/wrong.jsonl.json")" '[0,300]'
	jq -r .error "$D/done/wrong.jsonl.json" | grep -q '^EINVAL: none of 300 records'
	same "$(wc -l <"$D/failed/wrong.jsonl")" 300
	[ ! -e "$D/inbox/wrong.jsonl" ]
	# A shell that holds the file open may go on.
	exec 5>"$D/inbox/sh.jsonl"
	fails "Invalid argument" bash -c 'head -1 "$1" >&5' - "$BASE/wrong.jsonl"
	lines 1 2 >&5
	exec 5>&-
	same "$(jq -c '[.accepted,.rejected,has("error")]' "$D/done/sh.jsonl.json")" '[2,1,false]'
	same "$(count)" 5
}

@test "on_error abort: the copy fails at the record, those before it stay" {
	three
	echo abort >"$D/config/on_error"
	printf '%s\n' '{"id":"g1","vector":[1,2,3]}' '{"id":"bad","vector":[1]}' '{"id":"g2","vector":[1,2,3]}' >"$BASE/a.jsonl"
	fails "Invalid argument" cp "$BASE/a.jsonl" "$D/inbox/"
	logged "EINVAL $C/inbox/a.jsonl:2: "
	[ -e "$D/vec/g1.json" ]
	[ ! -e "$D/vec/g2.json" ]
	same "$(jq -c '[.accepted,.inserted,.rejected,.line]' "$D/done/a.jsonl.json")" '[1,1,0,2]'
	jq -r .error "$D/done/a.jsonl.json" | grep -q '^EINVAL: .*dimension'
	same "$(cut -d: -f1,2 "$D/failed/a.jsonl.err")" '2: EINVAL'
}

@test "half a record at the end fails the close, the rest is committed" {
	printf '{"id":"a","vector":[1,2,3]}\n{"id":"b","vec' >"$BASE/h.jsonl"
	fails "Invalid argument" cp "$BASE/h.jsonl" "$D/inbox/"
	logged "EINVAL $C/inbox/h.jsonl:2: .*incomplete"
	same "$(count)" 1
	same "$(jq -c '[.accepted,.line]' "$D/done/h.jsonl.json")" '[1,2]'
	jq -r .error "$D/done/h.jsonl.json" | grep -q '^EINVAL: line 2 is incomplete'
	grep -q '^2: EINVAL: line 2 is incomplete' "$D/failed/h.jsonl.err"
	# Whole the next time, nothing of that is left.
	lines 1 2 >"$D/inbox/h.jsonl"
	same "$(jq -c '[.accepted,has("error"),has("line")]' "$D/done/h.jsonl.json")" '[2,false,false]'
	same "$(ls "$D/failed")" ""
}

@test "what ends a file of rows is named in its receipt, with what was taken before" {
	python3 - "$BASE" <<-'PY'
		import struct, sys
		b = sys.argv[1] + "/"
		row = lambda *v: struct.pack("<i%df" % len(v), len(v), *v)
		open(b + "d.fvecs", "wb").write(row(1, 2, 3) + row(4, 5, 6) + row(7, 8))
		h = b"{'descr': '<f4', 'fortran_order': False, 'shape': (5, 3), }"
		h += b" " * (64 - (10 + len(h) + 1) % 64) + b"\n"
		npy = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(h)) + h
		open(b + "s.npy", "wb").write(npy + struct.pack("<9f", *range(1, 10)))
		open(b + "c.npy", "wb").write(npy + struct.pack("<7f", *range(1, 8)))
		open(b + "h.npy", "wb").write(npy[:20])
	PY
	for f in d.fvecs:2:3 s.npy:3:4 c.npy:2:3 h.npy:0:null; do
		IFS=: read -r name accepted line <<<"$f"
		rm -f "$D"/vec/*.json
		fails "Invalid argument" cp "$BASE/$name" "$D/inbox/"
		same "$name $(count)" "$name $accepted"
		same "$name $(jq -c '[.accepted,.line]' "$D/done/$name.json")" "$name [$accepted,$line]"
		jq -r .error "$D/done/$name.json" | grep -q '^EINVAL: '
		same "$(cut -d: -f1 "$D/failed/$name.err")" "${line/null/0}"
	done
}

@test "a file that is not written in order ends, and what came before is in and in the receipt" {
	python3 - "$D/inbox/o.jsonl" <<-'PY'
		import os, sys
		fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
		os.write(fd, b'{"id":"a","vector":[1,2,3]}\n')
		try:
		    os.pwrite(fd, b'{"id":"b","vector":[1,2,3]}\n', 100)
		except OSError as e:
		    assert e.errno == 22
		else:
		    raise AssertionError
		os.close(fd)
	PY
	same "$(count)" 1
	same "$(jq -c '[.accepted,.line]' "$D/done/o.jsonl.json")" '[1,null]'
	jq -r .error "$D/done/o.jsonl.json" | grep -q 'in order'
}

@test "an unknown suffix is EINVAL" {
	fails "Invalid argument" cp /etc/passwd "$D/inbox/passwd.xyz"
	logged "EINVAL $C/inbox/passwd.xyz: unknown suffix"
}

@test "a staged file is nobody's until mv, and then whole" {
	lines 1 100 >"$D/inbox/.x.jsonl.tmp"
	same "$(count)" 0
	same "$(ls -A "$D/inbox")" .x.jsonl.tmp
	same "$(wc -l <"$D/inbox/.x.jsonl.tmp")" 100
	mv "$D/inbox/.x.jsonl.tmp" "$D/inbox/x.jsonl"
	same "$(count)" 100
	same "$(ls -A "$D/inbox")" ""
	same "$(jq .accepted "$D/done/x.jsonl.json")" 100
}

@test "names ending in .tmp, .part or ~ stage as well, and can be removed" {
	for n in a.jsonl.tmp b.part 'c.jsonl~'; do
		lines 1 2 >"$D/inbox/$n"
	done
	same "$(count)" 0
	same "$(ls "$D/inbox" | wc -l)" 3
	rm "$D"/inbox/*
	same "$(ls -A "$D/inbox")" ""
	same "$(count)" 0
}

@test "mv of a file with one bad record commits none of it, and mv fails once" {
	three
	{
		lines 1 50
		echo '{"id":"bad","vector":[1]}'
	} >"$D/inbox/.y"
	fails "Bad message" mv "$D/inbox/.y" "$D/inbox/y.jsonl"
	same "$(count)" 3
	logged "EBADMSG $C/inbox/y.jsonl:51: "
	[ -e "$D/inbox/.y" ]
	[ ! -e "$D/done/y.jsonl.json" ]
	[[ "$(cat "$D/failed/y.jsonl.err")" == "51: EINVAL: "* ]]
	lines 1 50 >"$D/inbox/.y"
	mv "$D/inbox/.y" "$D/inbox/y.jsonl"
	[ -e "$D/done/y.jsonl.json" ]
	[ ! -e "$D/failed/y.jsonl.err" ]
}

@test "mv of a file beyond inbox.max is EFBIG, and a copy streams" {
	echo 64K >"$D/config/inbox.max"
	lines 1 5000 >"$D/inbox/.big"
	fails "File too large" mv "$D/inbox/.big" "$D/inbox/big.jsonl"
	same "$(count)" 0
	logged "EFBIG $C/inbox/big.jsonl: "
	lines 1 5000 >"$BASE/big.jsonl"
	cp "$BASE/big.jsonl" "$D/inbox/"
	same "$(count)" 5000
	echo 1G >"$D/config/inbox.max"
	mv "$D/inbox/.big" "$D/inbox/big2.jsonl"
	same "$(jq -c '[.accepted,.inserted,.updated]' "$D/done/big2.jsonl.json")" "[5000,0,5000]"
}

@test "a daemon that is killed during mv has all of the file or none" {
	local all=0 none=0 i n
	python3 - >"$BASE/k.jsonl" <<-'PY'
		for i in range(20000):
		    print('{"id":"r%d","vector":[%d.5,1,2],"text":"%s"}' % (i, i, "y" * 300))
	PY
	for i in 1 2 3 4 5 6; do
		sed "s/\"id\":\"r/&$i-/" "$BASE/k.jsonl" >"$D/inbox/.k"
		mv "$D/inbox/.k" "$D/inbox/k.jsonl" 2>/dev/null &
		sleep "0.$((RANDOM % 5))$((RANDOM % 10))"
		stop_daemon "$DATA" "$MNT" KILL
		wait $! || true
		umount -l "$MNT" 2>/dev/null || true
		start_daemon "$DATA" "$MNT"
		n=$(count)
		[ $((n % 20000)) -eq 0 ]
		if [ "$n" -gt $((all * 20000)) ]; then all=$((all + 1)); else none=$((none + 1)); fi
		same "$n" $((all * 20000))
	done
	echo "all $all, none $none"
}

@test "mv to an unknown suffix keeps the staged file" {
	lines 1 2 >"$D/inbox/.z"
	fails "Bad message" mv "$D/inbox/.z" "$D/inbox/z.unknown"
	logged "EBADMSG $C/inbox/z.unknown: unknown suffix"
	[ -e "$D/inbox/.z" ]
	mv "$D/inbox/.z" "$D/inbox/z.jsonl"
	same "$(count)" 2
}

@test "mv from another file system copies, as always" {
	lines 1 5 >"$BASE/w.jsonl"
	mv "$BASE/w.jsonl" "$D/inbox/"
	same "$(count)" 5
	[ ! -e "$BASE/w.jsonl" ]
}

@test "a staged file of many megabytes is no burden" {
	python3 - >"$BASE/huge.jsonl" <<-'PY'
		for i in range(30000):
		    print('{"id":"r%d","vector":[%d.5,1,2],"text":"%s"}' % (i, i, "y" * 300))
	PY
	cp "$BASE/huge.jsonl" "$D/inbox/huge.jsonl.part"
	cmp "$BASE/huge.jsonl" "$D/inbox/huge.jsonl.part"
	mv "$D/inbox/huge.jsonl.part" "$D/inbox/huge.jsonl"
	same "$(count)" 30000
}

@test "the name shows while the file is copied" {
	python3 - "$D/inbox/f.jsonl" <<-'PY'
		import os, sys
		fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
		os.write(fd, b'{"id":"a","vector":[1,2,3]}\n')
		assert os.listdir(os.path.dirname(sys.argv[1])) == ["f.jsonl"]
		assert os.stat(sys.argv[1]).st_size == 28
		os.close(fd)
		assert os.listdir(os.path.dirname(sys.argv[1])) == []
	PY
	gone "$D/inbox/f.jsonl"
}

@test "a name that was committed resolves for a while, for programs that still set its mode and times" {
	lines 1 10 >"$BASE/r.jsonl"
	local size
	size=$(stat -c %s "$BASE/r.jsonl")
	install -m600 "$BASE/r.jsonl" "$D/inbox/i.jsonl"
	python3 -c 'import shutil, sys; shutil.copy(*sys.argv[1:]); shutil.copy2(*sys.argv[1:])' \
		"$BASE/r.jsonl" "$D/inbox/p.jsonl"
	rsync --inplace -t "$BASE/r.jsonl" "$D/inbox/z.jsonl"
	cp "$BASE/r.jsonl" "$D/inbox/c.jsonl"
	chmod 640 "$D/inbox/c.jsonl"
	touch -d 2001-01-01 "$D/inbox/c.jsonl"
	chown "$(id -u)" "$D/inbox/c.jsonl"
	truncate -s "$size" "$D/inbox/c.jsonl"
	same "$(stat -c %s "$D/inbox/c.jsonl")" "$size"
	same "$(ls -A "$D/inbox")" ""
	same "$(ls "$D/done" | tr '\n' ' ')" "c.jsonl.json i.jsonl.json p.jsonl.json z.jsonl.json "
	same "$(jq -c '[.accepted,.updated]' "$D/done/p.jsonl.json")" '[10,10]'
	same "$(cat "$MNT/.vecfs/error_log")" ""
	same "$(count)" 10
	# It is a name, not a file: it cannot be read, cut or renamed, and can be removed.
	fails "No such file" cat "$D/inbox/c.jsonl"
	fails "Invalid argument" truncate -s 3 "$D/inbox/c.jsonl"
	fails "No such file" mv "$D/inbox/c.jsonl" "$D/inbox/d.jsonl"
	rm "$D/inbox/c.jsonl"
	[ ! -e "$D/inbox/c.jsonl" ]
	gone "$D/inbox/i.jsonl"
}

@test "a name that still resolves takes a file again" {
	lines 1 10 >"$BASE/a.jsonl"
	lines 5 30 >"$BASE/b.jsonl"
	cp "$BASE/a.jsonl" "$D/inbox/f.jsonl"
	cp "$BASE/b.jsonl" "$D/inbox/f.jsonl"
	cat "$BASE/a.jsonl" >"$D/inbox/f.jsonl"
	same "$(stat -c %s "$D/inbox/f.jsonl")" "$(stat -c %s "$BASE/a.jsonl")"
	same "$(count)" 30
	same "$(jq -c '[.inserted,.updated]' "$D/done/f.jsonl.json")" '[0,10]'
	# While it is written again it is listed again.
	python3 - "$D/inbox" <<-'PY'
		import os, sys
		fd = os.open(sys.argv[1] + "/f.jsonl", os.O_WRONLY | os.O_TRUNC)
		os.write(fd, b'{"id":"a","vector":[1,2,3]}\n')
		assert os.listdir(sys.argv[1]) == ["f.jsonl"]
		assert os.stat(sys.argv[1] + "/f.jsonl").st_size == 28
		os.close(fd)
		assert os.listdir(sys.argv[1]) == []
	PY
	same "$(cat "$MNT/.vecfs/error_log")" ""
}

@test "a name that was refused is gone at once, and a removed one stays removed" {
	echo 'not json' >"$BASE/bad.jsonl"
	echo abort >"$D/config/on_error"
	fails "Invalid argument" cp "$BASE/bad.jsonl" "$D/inbox/"
	printf '{"id":"a","vec' >"$BASE/half.jsonl"
	fails "Invalid argument" cp "$BASE/half.jsonl" "$D/inbox/"
	[ ! -e "$D/inbox/half.jsonl" ]
	gone "$D/inbox/bad.jsonl" 1
	python3 - "$D/inbox/u.jsonl" <<-'PY'
		import os, sys
		fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
		os.write(fd, b'{"id":"a","vector":[1,2,3]}\n')
		os.unlink(sys.argv[1])
		os.close(fd)
		assert not os.path.exists(sys.argv[1])
	PY
	same "$(count)" 1
}

@test "many names are committed, and only the last of them resolve" {
	python3 - "$D/inbox" <<-'PY'
		import os, sys
		n = 1500
		for i in range(n):
		    fd = os.open("%s/%d.jsonl" % (sys.argv[1], i), os.O_WRONLY | os.O_CREAT)
		    os.write(fd, b'{"id":"r%d","vector":[1,2,3]}\n' % i)
		    os.close(fd)
		found = [i for i in range(n) if os.path.exists("%s/%d.jsonl" % (sys.argv[1], i))]
		assert len(found) <= 1024, len(found)
		assert os.listdir(sys.argv[1]) == []
	PY
	same "$(count)" 1500
}

@test "touch in inbox/ leaves nothing" {
	touch "$D/inbox/empty.jsonl"
	same "$(ls "$D/done")" ""
	gone "$D/inbox/empty.jsonl"
}

@test "a duplicate id within a file: the last wins, and it is counted" {
	printf '%s\n' '{"id":"a","vector":[1,2,3]}' '{"id":"a","vector":[4,5,6]}' >"$D/inbox/d.jsonl"
	same "$(jq -c .vector "$D/vec/a.json")" '[4,5,6]'
	same "$(jq -c '[.accepted,.duplicates]' "$D/done/d.jsonl.json")" '[2,1]'
}

@test "receipts and rejects can be removed" {
	lines 1 2 >"$D/inbox/r.jsonl"
	rm "$D/done/r.jsonl.json"
	same "$(ls "$D/done")" ""
	fails "No such file" cat "$D/done/r.jsonl.json"
}

@test "tee and dd into inbox/, and a tar of what came in" {
	lines 1 10 | tee "$D/inbox/t.jsonl" >/dev/null
	lines 11 20 | dd of="$D/inbox/u.jsonl" bs=7 2>/dev/null
	same "$(count)" 20
	same "$(tar -C "$D" -cf - vec | tar -tf - | grep -c json)" 20
}
