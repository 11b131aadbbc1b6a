#!/usr/bin/env bats
# vec-snap: what is taken comes back exactly, here or elsewhere; what is damaged is refused and leaves nothing.

load helper

records() { # N [FIRST]
	seq "${2:-1}" "$((${2:-1} + $1 - 1))" |
		awk '{ printf "{\"id\":\"r%d\",\"vector\":[%d,%d,1],\"meta\":{\"n\":%d},\"text\":\"t %d\"}\n", $1, $1, $1 % 7, $1, $1 }'
}

# Nothing is left of what failed.
nothing_left() {
	[ -z "$(find "$DATA/snapshots" -mindepth 1 -name '.*')" ]
	[ -z "$(vec-ls | grep '^\.')" ]
}

@test "a snapshot comes back as it was, under another name and in place" {
	records 500 | vec-put "$C"
	vec-scan "$C" | sort >before
	vec-snap take "$C" one
	records 100 400 | vec-put "$C"
	seq -f r%.0f 1 50 | vec-rm "$C"
	vec-snap restore "$C" one "$C-copy"
	vec-scan "$C-copy" | sort | cmp - before
	run -5 vec-snap restore "$C" one
	[[ $output == *"exists; --force replaces it"* ]]
	vec-snap restore -f "$C" one
	vec-scan "$C" | sort | cmp - before
	[ "$(vec-query -k 1 -i "$C" <<<'[17,3,1]')" = "$(vec-query -k 1 -i "$C-copy" <<<'[17,3,1]')" ]
	vec-snap verify "$C" one
	nothing_left
}

@test "take without a name prints it; list, rm; a name is taken once" {
	records 10 | vec-put "$C"
	name=$(vec-snap take "$C")
	vec-snap list "$C" | grep -P "^$C\t$name\t20.*Z\t10\t[0-9]+$"
	run -5 vec-snap take "$C" "$name"
	[[ $output == *"exists already"* ]]
	vec-snap rm "$C" "$name"
	run -1 vec-snap list "$C"
	run -5 vec-snap rm "$C" "$name"
	run -4 vec-snap take "$C" ../x
	run -5 vec-snap take nowhere x
}

@test "an empty collection has a snapshot too" {
	vec-create "$C" --metric l2
	vec-snap take "$C" e
	vec-snap restore "$C" e "$C-e"
	[ "$(vec-scan "$C-e" | wc -l)" -eq 0 ]
	vec-snap send "$C" e | vec-snap receive "$C-f"
	vec-ls -j | grep "\"$C-f\"" | grep -q '"l2"'
}

@test "options come back" {
	vec-create "$C" --metric ip --quant sq4 --m 9 --recall 0.9
	records 20 | vec-put "$C"
	vec-snap take "$C" o
	vec-snap restore "$C" o "$C-o"
	vec-ls -j | grep "\"$C-o\"" | grep '"ip"' | grep -q '"sq4"'
}

@test "a snapshot outlives its collection" {
	records 30 | vec-put "$C"
	vec-scan "$C" | sort >before
	vec-snap take "$C" last
	vec-drop -f "$C"
	vec-snap restore "$C" last
	vec-scan "$C" | sort | cmp - before
}

@test "send and receive through a pipe, whole and by what changed" {
	records 300 | vec-put "$C"
	vec-snap take "$C" one
	vec-scan "$C" | sort >before
	vec-snap send "$C" one | vec-snap receive "$C-there"
	vec-scan "$C-there" | sort | cmp - before
	run -5 vec-snap receive "$C-there" </dev/null
	[[ $output == *"the collection exists"* ]]
	# Nothing was written: every file of the slices is the same but for what SQLite makes of it.
	vec-snap take "$C" two
	vec-snap send --from one "$C" two >part
	vec-snap send "$C" two >whole
	[ "$(stat -c %s part)" -lt "$(stat -c %s whole)" ]
	vec-snap receive -f "$C-there" <part
	vec-scan "$C-there" | sort | cmp - before
	# Where the older one is not, the newer one has nothing to build on.
	run -5 vec-snap receive "$C-else" <part
	[[ $output == *"is not in the stream"* ]]
	run -5 vec-ls "$C-else"
	vec-snap receive --only --name mine "$C-else" <whole
	[ "$(vec-snap list "$C-else" | cut -f2)" = mine ]
	run -5 vec-ls "$C-else"
	nothing_left
}

@test "a stream that is damaged anywhere, cut or longer is refused and leaves nothing" {
	records 40 | vec-put "$C"
	vec-snap take "$C" one
	vec-snap send "$C" one >stream
	python3 - <<-'END'
		import random
		b = bytearray(open('stream', 'rb').read())
		random.seed(7)
		at = list(range(24)) + random.sample(range(24, len(b)), 60) + list(range(len(b) - 8, len(b)))
		for n, i in enumerate(at):
		    c = bytearray(b)
		    c[i] ^= 1 << random.randrange(8)
		    open('bad%03d' % n, 'wb').write(c)
		for n in (0, 5, 16, 30, len(b) // 2, len(b) - 1):
		    open('bad-cut%06d' % n, 'wb').write(b[:n])
		open('bad-long', 'wb').write(b + b'x')
	END
	for f in bad*; do
		run vec-snap receive "$C-bad" <"$f"
		[ "$status" -eq 4 ] || { [ "$status" -eq 5 ] && [[ $output == *version* ]]; } ||
			{ echo "$f: $status $output"; false; }
		[ -n "$output" ]
		run -1 vec-snap list "$C-bad"
	done
	nothing_left
	run -5 vec-ls "$C-bad"
	vec-snap receive "$C-bad" <stream
}

@test "a damaged snapshot is said to be, and changes nothing" {
	records 40 | vec-put "$C"
	vec-snap take "$C" one
	f=$(find "$DATA/snapshots/$C/one" -name '*.vec' | head -1)
	chmod u+w "$f"
	printf 'XX' | dd of="$f" bs=1 seek=5000 conv=notrunc status=none
	run -4 vec-snap verify "$C" one
	[[ $output == *"$(basename "$f") is damaged"* ]]
	run -4 vec-snap restore -f "$C" one
	[ "$(vec-scan -i "$C" | wc -l)" -eq 40 ]
	printf 'XX' | dd of="$DATA/snapshots/$C/one/manifest" bs=1 seek=20 conv=notrunc status=none
	vec-snap list "$C" | grep -P "one\tdamaged"
	vec-snap rm "$C" one
}

@test "a receive whose sender dies leaves nothing" {
	records 40 | vec-put "$C"
	vec-snap take "$C" one
	vec-snap send "$C" one >stream
	{
		head -c 300 stream
		sleep 3
	} | vec-snap receive "$C-x" &
	pid=$!
	sleep 1
	kill -9 "$pid"
	wait "$pid" || true
	sleep 1
	nothing_left
}
