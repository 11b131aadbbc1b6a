# paragraphs.awk - manual pages (mdoc or man) and Markdown files to paragraphs, as JSON Lines.
#
#	awk -f scripts/paragraphs.awk man/vec-put.1 README.md
#	{"id":"man/vec-put.1#3","text":"vec-put(1), OPTIONS: ..."}
#
# A reader of manual pages good enough to search them by, where no formatter is installed: it knows
# the sections, paragraphs and list items, and drops the rest of the markup.  Literal blocks are left
# out.  An id is FILE#N, N counting the paragraphs of the file from 1; the text begins with where it
# stands, so that a paragraph makes sense alone.

function flush(	t) {
	t = para
	para = ""
	gsub(/[ \t]+/, " ", t)
	sub(/^ /, "", t)
	sub(/ $/, "", t)
	if (length(t) < 25)
		return
	gsub(/\\/, "&&", t)
	gsub(/"/, "\\\"", t)
	n++
	printf "{\"id\":\"%s#%d\",\"text\":\"%s%s: %s\"}\n", file, n, title,
		heading == "" ? "" : ", " heading, t
}

function add(s) {
	# Punctuation clings to what stands before it.
	if (s ~ /^[.,;:!?)\]]+$/ || glue)
		para = para s
	else
		para = para " " s
	glue = 0
}

# roff's escapes to plain text.
function plain(s) {
	gsub(/\\f[BIRP]|\\f\([A-Z][A-Z]|\\&|\\\||\\\^|\\c$/, "", s)
	gsub(/\\\(aq|\\\(cq|\\\(oq/, "'", s)
	gsub(/\\\(dq|\\\(lq|\\\(rq/, "\"", s)
	gsub(/\\\(em|\\\(en|\\-/, "-", s)
	gsub(/\\\(bu/, "*", s)
	gsub(/\\~|\\ /, " ", s)
	gsub(/\\e/, "\\", s)
	return s
}

# The words of an mdoc line: macros say how, arguments what.
function mdoc(s,	w, m, i, x, dash) {
	gsub(/"/, "", s)
	m = split(s, w, /[ \t]+/)
	dash = 0
	for (i = 1; i <= m; i++) {
		x = w[i]
		if (x == "Fl") {
			dash = 1
			if (i == m || w[i + 1] in macro)
				add("-")
		} else if (x == "Ns") {
			glue = 1
		} else if (x == "Xr") {
			add(w[i + 1] (w[i + 2] ~ /^[0-9]$/ ? "(" w[i + 2] ")" : ""))
			i += w[i + 2] ~ /^[0-9]$/ ? 2 : 1
		} else if (x == "Nm" && (i == m || w[i + 1] in macro || w[i + 1] ~ /^[.,;:)]$/)) {
			add(page)
		} else if (x in macro) {
			dash = 0
		} else {
			add((dash && x !~ /^[.,;:|()]$/ ? "-" : "") plain(x))
		}
	}
}

BEGIN {
	k = split("Fl Ar Nm Nd Xr Pa Dl Ql Em Sy Cm Ev Va Li Op Oo Oc Sq Dq Pq Qq Po Pc No Ns Ap Ic Er " \
		"Dv Aq Bq Brq Do Dc So Sc Qo Qc Lk Mt Fn Ft Vt In Tn Ux", list, " ")
	for (k in list)
		macro[list[k]] = 1
}

FNR == 1 {
	if (NR > 1 && title != "")
		flush()
	n = 0
	para = heading = ""
	literal = glue = 0
	md = FILENAME ~ /\.md$/
	page = FILENAME
	sub(/.*\//, "", page)
	if (md) {
		title = page
	} else {
		sect = page
		sub(/.*\./, "", sect)
		sub(/\.[^.]*$/, "", page)
		title = page "(" sect ")"
	}
	file = FILENAME
}

# --- Markdown ---------------------------------------------------------------------------------
md && /^```/ { flush(); literal = !literal; next }
md && literal { next }
md && /^(    |\t)/ && para == "" { next }
md && /^#+ / {
	flush()
	heading = $0
	sub(/^#+ /, "", heading)
	gsub(/[`*"\\]/, "", heading)
	next
}
md && /^\|[-| ]*$/ { next }
md && /^\| *[0-9][0-9,]* *\|/ { next } # a row of byte offsets: nothing to ask about
md && /^[ \t]*$/ { flush(); next }
md && /^\|/ { flush() }
md && /^([-*]|[0-9]+\.) / { flush() }
md {
	s = $0
	gsub(/\]\([^)]*\)/, "", s)
	gsub(/[`*\[|]/, " ", s)
	para = para " " s
	next
}

# --- manual pages -----------------------------------------------------------------------------
/^[.']\\"/ { next }
/^\.(Bd|nf|EX)/ { flush(); literal = 1; next }
/^\.(Ed|fi|EE)/ { literal = 0; next }
literal { next }
/^\.(Sh|SH|Ss|SS) / {
	flush()
	heading = plain(substr($0, 5))
	gsub(/["\\]/, "", heading)
	if (heading == "NAME")
		heading = ""
	next
}
/^\.(Dd|Dt|Os|TH|Bl|El|ad|hy|de|ds|if|so|RS|RE|UR|UE)/ {
	if (/^\.(Bl|El|RS|RE)/)
		flush()
	next
}
/^\.(Pp|PP|P|LP|TP|sp)([ \t]|$)/ { flush(); next }
/^\.(It|IP)([ \t]|$)/ { flush(); s = $0; sub(/^\.[A-Z][A-Za-z]*[ \t]*/, "", s); mdoc(s); add("-"); next }
/^\.(B|I|BR|RB|BI|IB|IR|RI|SM)[ \t]/ {
	joined = /^\.(BR|RB|BI|IB|IR|RI)/
	s = plain(substr($0, index($0, " ") + 1))
	if (joined)
		gsub(/[ \t]+/, "", s)
	gsub(/"/, "", s)
	add(s)
	next
}
/^\.[A-Z][a-z]/ { mdoc(substr($0, 2)); next }
/^\./ { next }
/^[ \t]*$/ { flush(); next }
{ add(plain($0)) }

END { flush() }
