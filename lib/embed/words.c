/* words.c - what the hash embedder knows of English: endings and common words.
 *
 * Both are part of the embedder's format: a change here changes every vector.
 */
#include <stdlib.h>
#include <string.h>

#include "embed/embed_i.h"

static bool ends(const char *w, size_t n, const char *suffix)
{
	size_t m = strlen(suffix);

	return n > m && !memcmp(w + n - m, suffix, m);
}

static bool is_vowel(char c)
{
	return c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u' || c == 'y';
}

static bool has_vowel(const char *w, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (is_vowel(w[i]))
			return true;
	}
	return false;
}

/* "stopp" (of stopped) is "stop"; "press" and "fill" stay. */
static size_t undouble(const char *w, size_t n)
{
	bool twin = n > 3 && w[n - 1] == w[n - 2] && !is_vowel(w[n - 1]);

	return twin && !strchr("lsz", w[n - 1]) ? n - 1 : n;
}

size_t word_stem(char *w, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (w[i] < 'a' || w[i] > 'z')
			return n; /* numbers, names with digits, other scripts */
	}
	if (n > 4 && ends(w, n, "ies"))
		n -= 2;
	else if (n > 4 && (ends(w, n, "sses") || ends(w, n, "xes") || ends(w, n, "ches") ||
				  ends(w, n, "shes")))
		n -= 2;
	else if (n > 3 && ends(w, n, "s") && !ends(w, n, "ss") && !ends(w, n, "us") &&
		 !ends(w, n, "is"))
		n--;
	if (n > 5 && ends(w, n, "ing") && has_vowel(w, n - 3))
		n = undouble(w, n - 3);
	else if (n > 4 && ends(w, n, "ed") && has_vowel(w, n - 2))
		n = undouble(w, n - 2);
	else if (n > 6 && (ends(w, n, "tion") || ends(w, n, "sion")))
		n -= 3;
	else if (n > 5 && ends(w, n, "ly"))
		n -= 2;
	else if (n > 6 && ends(w, n, "ment"))
		n -= 4;
	if (n > 3 && w[n - 1] == 'e')
		n--;
	else if (n > 2 && w[n - 1] == 'y' && !is_vowel(w[n - 2]))
		w[n - 1] = 'i';
	return n;
}

/* Sorted; weights stand in for the inverse document frequency of general English. */
static const char *const stop_words[] = {"a", "about", "above", "after", "again", "all", "also",
	"although", "am", "among", "an", "and", "another", "any", "are", "as", "at", "be",
	"because", "been", "before", "being", "below", "between", "both", "but", "by", "can",
	"cannot", "could", "d", "did", "do", "does", "doing", "done", "down", "during", "each",
	"either", "else", "etc", "even", "every", "few", "for", "from", "further", "had", "has",
	"have", "having", "he", "her", "here", "hers", "him", "his", "how", "however", "i", "if",
	"in", "into", "is", "it", "its", "itself", "just", "ll", "many", "may", "me", "might",
	"more", "most", "much", "must", "my", "neither", "no", "nor", "not", "of", "off", "often",
	"on", "once", "one", "only", "or", "other", "otherwise", "our", "out", "over", "own",
	"please", "rather", "re", "s", "same", "shall", "she", "should", "since", "so", "some",
	"such", "t", "than", "that", "the", "their", "them", "then", "there", "these", "they",
	"this", "those", "though", "through", "thus", "to", "too", "under", "until", "up", "upon",
	"us", "ve", "very", "was", "we", "were", "what", "when", "where", "whether", "which",
	"while", "who", "whom", "whose", "why", "will", "with", "within", "without", "would", "yet",
	"you", "your"};

static const char *const common_words[] = {"able", "add", "allow", "already", "always", "ask",
	"back", "become", "begin", "best", "better", "big", "call", "case", "certain", "change",
	"come", "day", "default", "different", "end", "example", "fact", "find", "first", "follow",
	"found", "get", "give", "given", "go", "good", "great", "happen", "help", "important",
	"instead", "keep", "kind", "know", "large", "last", "less", "let", "like", "little", "long",
	"look", "made", "make", "mean", "need", "never", "new", "next", "note", "number", "old",
	"part", "people", "place", "point", "possible", "put", "question", "read", "right", "said",
	"say", "second", "see", "seem", "set", "several", "show", "small", "still", "take", "tell",
	"thing", "think", "three", "time", "try", "turn", "two", "use", "used", "using", "usually",
	"value", "want", "way", "well", "work", "year"};

struct word {
	const char *p;
	size_t n;
};

static int compare(const void *key, const void *entry)
{
	const struct word *k = key;
	const char *e = *(const char *const *)entry;
	size_t n = strlen(e);
	int d = memcmp(k->p, e, VX_MIN(k->n, n));

	return d ? d : (k->n > n) - (k->n < n);
}

float word_weight(const char *w, size_t n)
{
	struct word k = {w, n};

	if (bsearch(&k, stop_words, VX_ARRAY_SIZE(stop_words), sizeof stop_words[0], compare))
		return 0.04f;
	if (bsearch(&k, common_words, VX_ARRAY_SIZE(common_words), sizeof common_words[0], compare))
		return 0.4f;
	if (n <= 1)
		return 0.4f;
	return n <= 3 ? 0.8f : 1.0f;
}
