#!/usr/bin/env bats
# vec/: records as files, through ordinary programs.
load helper

# The three lines of the manual's first page work.
@test "first use needs nothing: mkdir, echo, cat" {
	echo '[0.1,0.2,0.3]' >"$D/vec/a.json"
	echo '[0.1,0.2,0.4]' >"$D/vec/b.json"
	run -0 cat "$D/near/a"
	[[ "$output" =~ ^0$'\t'1$'\t'b$'\t'0\.00[0-9]+$ ]]
	same "$(cat "$MNT/.vecfs/error_log")" ""
}

@test "what was written is read back, not normalised" {
	echo '{"vector":[3, 4, 0.1],"meta":{"lang":"en", "n":1},"text":"h\u00e9llo"}' >"$D/vec/a.json"
	same "$(cat "$D/vec/a.json")" '{"id":"a","vector":[3,4,0.1],"meta":{"lang":"en","n":1},"text":"héllo"}'
	same "$(jq -c .vector "$D/vec/a.json")" '[3,4,0.1]'
}

@test "sizes are exact for .json and .f32" {
	echo '{"vector":[0.5,1,2],"text":"some text"}' >"$D/vec/a.json"
	same "$(stat -c %s "$D/vec/a.json")" "$(cat "$D/vec/a.json" | wc -c)"
	same "$(stat -c %s "$D/vec/a.f32")" 12
	same "$(cat "$D/vec/a.f32" | wc -c)" 12
	same "$(wc -c <"$D/vec/a.json")" "$(cat "$D/vec/a.json" | wc -c)"
}

@test "ls lists .json alone and shows the sizes" {
	three
	same "$(ls "$D/vec" | tr '\n' ' ')" "a.json b.json c.json "
	same "$(ls -l "$D/vec" | awk 'NR > 1 {print $5}' | head -1)" "$(cat "$D/vec/a.json" | wc -c)"
}

@test "a raw vector is written and read bit for bit" {
	f32 0.1 -2.5 1e-20 >"$BASE/v"
	cp "$BASE/v" "$D/vec/x.f32"
	cmp "$BASE/v" "$D/vec/x.f32"
	dd if="$D/vec/x.f32" of="$BASE/v2" bs=4 2>/dev/null
	cmp "$BASE/v" "$BASE/v2"
	dd if="$BASE/v" of="$D/vec/y.f32" bs=1 2>/dev/null
	cmp "$BASE/v" "$D/vec/y.f32"
}

@test "the mtime of a record is its commit" {
	local before after
	before=$(date +%s)
	three
	after=$(date +%s)
	local m
	m=$(stat -c %Y "$D/vec/a.json")
	[ "$m" -ge $((before - 1)) ]
	[ "$m" -le $((after + 1)) ]
}

@test "writing a record again replaces it" {
	three
	echo '[5,5,5]' >"$D/vec/a.json"
	same "$(jq -c .vector "$D/vec/a.json")" '[5,5,5]'
	same "$(ls "$D/vec" | wc -l)" 3
}

@test "opening with truncation keeps the old record until a new one is complete" {
	three
	: >"$D/vec/a.json"
	same "$(jq -c .vector "$D/vec/a.json")" '[0.1,0.2,0.3]'
	exec 5>"$D/vec/a.json"
	printf '[7,' >&5 || true
	same "$(jq -c .vector "$D/vec/a.json")" '[0.1,0.2,0.3]'
	exec 5>&-
	same "$(jq -c .vector "$D/vec/a.json")" '[0.1,0.2,0.3]'
}

@test "a record may come in many small writes" {
	printf '{"vector":[1,2,3],"text":"a ] in } text"}' | dd of="$D/vec/s.json" bs=1 2>/dev/null
	same "$(jq -c .text "$D/vec/s.json")" '"a ] in } text"'
}

@test "rm deletes, and the record is never found again" {
	three
	rm "$D/vec/b.json"
	[ ! -e "$D/vec/b.json" ]
	same "$(cat "$D/near/a" | cut -f3)" c
	same "$(cat "$D/ids" | sort | tr '\n' ' ')" "a c "
}

@test "names are percent-encoded: slash, percent, leading dot; the last suffix is the form" {
	echo '[1,2,3]' >"$D/vec/x%2Fy%25.json"
	echo '[1,2,4]' >"$D/vec/%2Ehidden.json"
	echo '[1,2,5]' >"$D/vec/a.b.json"
	same "$(sort "$D/ids" | tr '\n' ' ')" ".hidden a.b x/y% "
	same "$(ls "$D/vec" | sort | tr '\n' ' ')" "%2Ehidden.json a.b.json x%2Fy%25.json "
	same "$(jq -r .id "$D/vec/x%2Fy%25.json")" "x/y%"
}

@test "dash, bash, tee, python, dd write records" {
	dash -c 'echo "[1,2,3]" > "$1"' - "$D/vec/dash.json"
	bash -c 'printf "[1,2,3]" > "$1"' - "$D/vec/bash.json"
	echo '[1,2,3]' | tee "$D/vec/tee.json" >/dev/null
	echo '[1,2,3]' | dd of="$D/vec/dd.json" 2>/dev/null
	python3 - "$D/vec/py.json" <<-'PY'
		import sys
		f = open(sys.argv[1], "w")
		f.write("[1,2,3]")
		f.close()
	PY
	python3 - "$D/vec/unclosed.json" <<-'PY'
		import sys, os
		fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
		os.write(fd, b"[1,2,3]")
		# Complete means committed, closed or not.
		assert os.path.exists(sys.argv[1].replace("unclosed", "dash"))
		assert open(sys.argv[1]).read().startswith('{"id":"unclosed"')
		os._exit(0)
	PY
	same "$(ls "$D/vec" | wc -l)" 6
}

@test "cp copies a record under another id" {
	three
	cp "$D/vec/a.json" "$D/vec/a2.json"
	same "$(jq -c '[.id,.vector]' "$D/vec/a2.json")" '["a2",[0.1,0.2,0.3]]'
}

@test "mv renames a record" {
	echo '{"vector":[1,2,3],"meta":{"k":1},"text":"t"}' >"$D/vec/old.json"
	mv "$D/vec/old.json" "$D/vec/new.json"
	[ ! -e "$D/vec/old.json" ]
	same "$(cat "$D/vec/new.json")" '{"id":"new","vector":[1,2,3],"meta":{"k":1},"text":"t"}'
}

@test "a staging file becomes a record by mv" {
	echo '[1,2,3]' >"$D/vec/.tmp1"
	same "$(ls -A "$D/vec")" ""
	same "$(cat "$D/vec/.tmp1")" "[1,2,3]"
	mv "$D/vec/.tmp1" "$D/vec/real.json"
	[ ! -e "$D/vec/.tmp1" ]
	same "$(jq -c .vector "$D/vec/real.json")" '[1,2,3]'
	echo 'not json' >"$D/vec/upload.part"
	fails "Bad message" mv "$D/vec/upload.part" "$D/vec/real.json"
	same "$(jq -c .vector "$D/vec/real.json")" '[1,2,3]'
	logged "EBADMSG $C/vec/"
	rm "$D/vec/upload.part"
	[ ! -e "$D/vec/upload.part" ]
}

@test "mv of a staging file over a record replaces it, and that is no refusal" {
	echo '[1,2,3]' >"$D/vec/a.json"
	echo '[4,5,6]' >"$D/vec/.new"
	mv "$D/vec/.new" "$D/vec/a.json"
	same "$(jq -c .vector "$D/vec/a.json")" '[4,5,6]'
	same "$(cat "$MNT/.vecfs/error_log")" ""
}

@test "sed -i edits a record" {
	three
	sed -i 's/0\.3/0.75/' "$D/vec/a.json"
	same "$(jq -c .vector "$D/vec/a.json")" '[0.1,0.2,0.75]'
	same "$(ls -A "$D/vec" | wc -l)" 3
}

@test "sort -o and an edit in place work" {
	three
	sort -o "$D/vec/a.json" "$D/vec/a.json"
	same "$(jq -c .vector "$D/vec/a.json")" '[0.1,0.2,0.3]'
	python3 - "$D/vec/a.json" <<-'PY'
		import sys
		with open(sys.argv[1], "r+") as f:
		    t = f.read().replace("0.3", "9")
		    f.seek(0)
		    f.write(t)
		    f.truncate()
	PY
	same "$(jq -c .vector "$D/vec/a.json")" '[0.1,0.2,9]'
}

@test "find, grep, head, tail, wc and tar read vec/" {
	three
	same "$(find "$D/vec" -name '*.json' -type f | wc -l)" 3
	same "$(grep -l '0\.9' "$D"/vec/*.json)" "$D/vec/c.json"
	same "$(head -c 9 "$D/vec/a.json")" '{"id":"a"'
	same "$(tail -c 5 "$D/vec/a.json")" '.3]}'
	tar -C "$D" -cf "$BASE/t.tar" vec
	mkdir "$BASE/x"
	tar -C "$BASE/x" -xf "$BASE/t.tar"
	cmp "$BASE/x/vec/b.json" "$D/vec/b.json"
	rm -r "$BASE/x"
}

@test "a temporary file with mode, owner and times set, then renamed, as rsync does" {
	three
	python3 - "$D/vec" <<-'PY'
		import os, sys
		os.chdir(sys.argv[1])
		fd = os.open(".a.json.Xy12Zw", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
		os.write(fd, b'{"vector":[7,8,')
		os.write(fd, b'9]}\n')
		os.close(fd)
		os.chown(".a.json.Xy12Zw", 0, 0)
		os.utime(".a.json.Xy12Zw", (1, 1))
		os.chmod(".a.json.Xy12Zw", 0o640)
		assert os.stat(".a.json.Xy12Zw").st_mode & 0o777 == 0o640
		os.rename(".a.json.Xy12Zw", "a.json")
	PY
	same "$(jq -c .vector "$D/vec/a.json")" '[7,8,9]'
	same "$(ls -A "$D/vec" | wc -l)" 3
}

@test "two thousand records are listed page by page, each once" {
	seq 1 2000 | sed 's/.*/{"id":"r&","vector":[&,1,2]}/' >"$D/append"
	same "$(ls -f "$D/vec" | grep -c json)" 2000
	same "$(ls "$D/vec" | sort -u | wc -l)" 2000
	same "$(find "$D/vec" -type f | wc -l)" 2000
}

@test "rm -r of a listing while it is read removes everything" {
	seq 1 700 | sed 's/.*/{"id":"r&","vector":[&,1,2]}/' >"$D/append"
	find "$D/vec" -name '*.json' -delete
	same "$(ls "$D/vec" | wc -l)" 0
}

# --- refusals: the status, and one line in the log -----------------------------------------------------
@test "a wrong dimension is EINVAL in the write" {
	three
	run bash -c "echo '[1,2]' > '$D/vec/d.json'"
	[ "$status" -ne 0 ]
	[[ "$output" == *"Invalid argument"* ]]
	logged "EINVAL $C/vec/d.json: .*dimension"
	[ ! -e "$D/vec/d.json" ]
}

@test "NaN, infinity, broken JSON, unknown key, a second value are EINVAL" {
	three
	for bad in '[1,2,NaN]' '[1,2,1e999]' '[1,2,]' '[1,"x",3]' 'hello' '{"vector":[1,2,3],"nope":1}' '[1,2,3] [4,5,6]' '{"vector":"!!!"}'; do
		: >"$MNT/.vecfs/error_log"
		run bash -c "printf '%s\n' '$bad' > '$D/vec/bad.json'"
		[ "$status" -ne 0 ] || { echo "accepted: $bad" >&2; false; }
		logged "EINVAL $C/vec/bad.json: "
	done
	same "$(ls "$D/vec" | wc -l)" 3
}

@test "a zero vector is EINVAL under cosine" {
	three
	run bash -c "echo '[0,0,0]' > '$D/vec/z.json'"
	[ "$status" -ne 0 ]
	logged "EINVAL $C/vec/z.json: "
}

@test "half a record makes close fail with EINVAL" {
	three
	run python3 - "$D/vec/h.json" <<-'PY'
		import os, sys, errno
		fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
		os.write(fd, b'{"vector":[1,2,')
		try:
		    os.close(fd)
		except OSError as e:
		    assert e.errno == errno.EINVAL
		    sys.exit(7)
	PY
	[ "$status" -eq 7 ]
	logged "EINVAL $C/vec/h.json: half a record"
	[ ! -e "$D/vec/h.json" ]
	: >"$MNT/.vecfs/error_log"
	head -c 7 /dev/zero >"$BASE/seven"
	fails "Invalid argument" cp "$BASE/seven" "$D/vec/h.f32"
	logged "EINVAL $C/vec/h.f32: "
}

@test "a vector of too many bytes is EINVAL" {
	three
	f32 1 2 3 4 >"$BASE/four"
	fails "Invalid argument" cp "$BASE/four" "$D/vec/four.f32"
	logged "EINVAL $C/vec/four.f32: 16 bytes"
}

@test "appending to a record is EINVAL and changes nothing" {
	three
	run bash -c "echo '[1,2,3]' >> '$D/vec/a.json'"
	[ "$status" -ne 0 ]
	logged "EINVAL $C/vec/a.json: "
	same "$(jq -c .vector "$D/vec/a.json")" '[0.1,0.2,0.3]'
}

@test "an over-long id is ENAMETOOLONG" {
	local long
	long=$(printf 'x%.0s' $(seq 1 241))
	run bash -c "echo '[1,2,3]' > '$D/vec/$long.json'"
	[ "$status" -ne 0 ]
	[[ "$output" == *"File name too long"* ]]
	logged "ENAMETOOLONG $C/vec/x+.json: "
	long=${long:1}
	echo '[1,2,3]' >"$D/vec/$long.json"
	same "$(cat "$D/ids")" "$long"
}

@test "ids that are no UTF-8 or have control characters are EINVAL" {
	run bash -c "echo '[1,2,3]' > '$D/vec/'\$'\\xff\\xfe'.json"
	[ "$status" -ne 0 ]
	logged "EINVAL $C/vec/"
	: >"$MNT/.vecfs/error_log"
	run bash -c "echo '[1,2,3]' > '$D/vec/a%0Ab.json'"
	[ "$status" -ne 0 ]
	logged "EINVAL $C/vec/a%0Ab.json: "
	: >"$MNT/.vecfs/error_log"
	run bash -c "echo '[1,2,3]' > '$D/vec/a%zz.json'"
	[ "$status" -ne 0 ]
	logged "EINVAL $C/vec/a%zz.json: "
}

@test "a record cannot become a staging file; nothing moves between directories" {
	three
	fails "not permitted" mv "$D/vec/a.json" "$D/vec/a.json.bak"
	grep -qE "EPERM $C/vec/a.json: " "$MNT/.vecfs/error_log"
	[ -e "$D/vec/a.json" ]
	mkdir "$MNT/other$BATS_TEST_NUMBER"
	mv "$D/vec/a.json" "$MNT/other$BATS_TEST_NUMBER/vec/a.json"
	[ ! -e "$D/vec/a.json" ]
	same "$(jq -c .vector "$MNT/other$BATS_TEST_NUMBER/vec/a.json")" '[0.1,0.2,0.3]'
}

@test "modes, owners and times of records are accepted and ignored: cp -p, rsync -a and tar work" {
	three
	chmod 600 "$D/vec/a.json"
	chown "$(id -u)" "$D/vec/a.json"
	touch "$D/vec/a.json"
	same "$(stat -c %a "$D/vec/a.json")" 644
	mkdir "$BASE/src"
	for i in 1 2 3; do
		echo "[$i,2,3]" >"$BASE/src/p$i.json"
	done
	chmod 600 "$BASE"/src/*
	[ "$(id -u)" -ne 0 ] || chown 12345:12345 "$BASE"/src/*
	cp -p "$BASE/src/p1.json" "$D/vec/"
	cp -a "$BASE/src/p1.json" "$D/vec/p4.json"
	rsync -a "$BASE/src/" "$D/vec/"
	rsync -a --inplace "$BASE/src/" "$D/vec/"
	(cd "$BASE/src" && tar -cf - --transform 's,p,t,' ./*.json) | tar -C "$D/vec" -xf -
	same "$(ls "$D/vec" | tr '\n' ' ')" \
		"a.json b.json c.json p1.json p2.json p3.json p4.json t1.json t2.json t3.json "
	same "$(cat "$MNT/.vecfs/error_log")" ""
	fails "not permitted" chmod 600 "$D/stats"
	logged "EPERM $C/stats: "
}

@test "links and special files are EPERM; xattrs are not supported" {
	three
	fails "not permitted" ln -s a.json "$D/vec/l.json"
	fails "not permitted" ln "$D/vec/a.json" "$D/vec/l.json"
	fails "not permitted" mkfifo "$D/vec/p"
	run -0 python3 - "$D/vec/a.json" <<-'PY'
		import os, sys, errno
		try:
		    os.setxattr(sys.argv[1], "user.x", b"1")
		except OSError as e:
		    assert e.errno == errno.ENOTSUP, e
		else:
		    sys.exit(1)
	PY
}

@test "st_size is exact for records with meta and text, whatever is in them" {
	python3 - "$D" <<-'PY'
		import json, os, subprocess, sys
		d = sys.argv[1] + "/vec/"
		recs = {
		    "plain": {"vector": [1, 2, 3]},
		    "meta": {"vector": [0.1, 1e-7, 3], "meta": {"k": [1, 2.5, None, True], "s": "x"}},
		    "text": {"vector": [1, 2, 3], "text": "a\tb\nc \"d\" \\ \u0001 \u00e4\u20ac\U0001f600"},
		    "both": {"vector": [1, 2, 3], "meta": {"\u00fc": "\u00e9\n"}, "text": "t" * 100000},
		    "empty": {"vector": [1, 2, 3], "meta": {}, "text": ""},
		    "na me%25\u00e9": {"vector": [1, 2, 3], "meta": {"a": {"b": {"c": []}}}},
		}
		for ascii in (True, False):
		    for name, r in recs.items():
		        with open(d + name + ".json", "w") as f:
		            f.write(json.dumps(r, ensure_ascii=ascii, indent=1))
		        data = open(d + name + ".json", "rb").read()
		        assert os.stat(d + name + ".json").st_size == len(data), (name, ascii)
		        assert os.stat(d + name + ".f32").st_size == 12
		        fd = os.open(d + name + ".json", os.O_RDONLY)
		        assert os.fstat(fd).st_size == len(data)
		        os.close(fd)
		        got = json.loads(data)
		        assert got["vector"] == r["vector"] and got.get("meta") == r.get("meta"), name
		        assert got.get("text", "") == r.get("text", ""), name
		out = subprocess.check_output(["ls", "-l", "--color=never", d], text=True)
		sizes = sorted(int(l.split()[4]) for l in out.splitlines()[1:])
		assert sizes == sorted(len(open(d + n, "rb").read()) for n in os.listdir(d)), out
		# Changed, it has another size at once.
		open(d + "plain.json", "w").write('{"vector":[1,2,3],"text":"longer"}')
		assert os.stat(d + "plain.json").st_size == len(open(d + "plain.json", "rb").read())
	PY
}

@test "text that can never become a record is refused in the write, for shells do not look at close" {
	echo '[1,2,3]' >"$D/vec/b.json"
	local t
	for t in '{broken' '[1,2,,' '{"vector":[1,2,3]]' '{"vector":[1,2,3}' 'nonsense' '[1,2,x'; do
		: >"$MNT/.vecfs/error_log"
		run bash -c "echo '$t' >'$D/vec/b.json'"
		[ "$status" -ne 0 ]
		logged "EINVAL $C/vec/b.json: "
	done
	same "$(jq -c .vector "$D/vec/b.json")" '[1,2,3]'
}

@test "a reader sees a record or nothing, never one that is being written" {
	exec 7>"$D/vec/slow.json"
	run cat "$D/vec/slow.json"
	[ "$status" -ne 0 ]
	[[ $output == *"No such file"* ]]
	echo '[1, 2, 3]' >&7
	same "$(cat "$D/vec/slow.json")" '{"id":"slow","vector":[1,2,3]}'
	exec 7>&-
}
