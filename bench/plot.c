/* plot.c - the curves as PNG, by gnuplot.
 *
 * Each drawing is a script with its data inside, left beside the PNG: who wants it otherwise edits
 * that and runs gnuplot again.
 */
#include "bench.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"

static const struct {
	const char *name, *label, *color;
	int point, width;
} styles[] = {
	{"library", "vecfs, library", "#c1272d", 7, 3},
	{"socket", "vecfs, socket", "#e8833a", 9, 2},
	{"mount", "vecfs, mount", "#eebb44", 11, 2},
	{"hnswlib", "hnswlib", "#0057a8", 5, 2},
	{"faiss", "faiss", "#5b8c3a", 13, 2},
};

/* 1, 2, 5 of every decade. */
#define TICS                                                                                       \
	"set ytics ('100' 100, '200' 200, '500' 500, '1k' 1e3, '2k' 2e3, '5k' 5e3, '10k' 1e4, "    \
	"'20k' 2e4, '50k' 5e4, '100k' 1e5, '200k' 2e5, '500k' 5e5, '1M' 1e6)\n"

static const char *label_of(const char *name)
{
	for (size_t i = 0; i < VX_ARRAY_SIZE(styles); i++) {
		if (strcmp(styles[i].name, name) == 0)
			return styles[i].label;
	}
	return name;
}

static void style(FILE *f, const char *name)
{
	for (size_t i = 0; i < VX_ARRAY_SIZE(styles); i++) {
		if (strcmp(styles[i].name, name) == 0)
			fprintf(f, " lc rgb '%s' pt %d ps 1.1 lw %d", styles[i].color,
				styles[i].point, styles[i].width);
	}
}

static FILE *begin(const char *dir, const char *name, const char *what, char *ret, size_t size)
{
	snprintf(ret, size, "%s/%s-%s.gp", dir, name, what);
	FILE *f = fopen(ret, "we");
	if (f)
		fprintf(f,
			"set terminal pngcairo size 1100,720 font 'sans,13' background '#ffffff'\n"
			"set output '%s-%s.png'\n"
			"set grid xtics ytics lc rgb '#c8c8c8' lw 1 lt 1\n"
			"set border lc rgb '#606060'\nset tics nomirror\n"
			"set key box opaque spacing 1.25 width 1\n",
			name, what);
	return f;
}

/* Runs gnuplot in 'dir', so that the script's names are plain. */
static int run(FILE *f, const char *dir, const char *script, struct vx_err *err)
{
	const char *base = strrchr(script, '/') + 1;
	bool bad = ferror(f);
	int status;

	if (fclose(f) != 0 || bad)
		return vx_err_set(err, -EIO, "%s: it cannot be written", script);
	pid_t pid = fork();
	if (pid < 0)
		return vx_err_set(err, -errno, "fork: %s", strerror(errno));
	if (pid == 0) {
		if (chdir(dir) == 0)
			execlp("gnuplot", "gnuplot", base, (char *)NULL);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) < 0)
		return -errno;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return vx_err_set(err, -ENOENT,
			"gnuplot is not there (Debian: gnuplot-nox); the script is %s", script);
	return status ? vx_err_set(err, -EIO, "gnuplot failed on %s", script) : 0;
}

/* Recall on an axis of "nines" 1 - r, so that .99 and .999 are as far apart as .9 and .99. */
static int plot_recall(const struct results *r, const char *dir, struct vx_err *err)
{
	char script[1024];
	FILE *f = begin(dir, r->set->name, "recall-qps", script, sizeof script);
	double far = 0.05, low = 1e9, high = 1;
	const char *sep = "";

	if (!f)
		return vx_err_set(err, -errno, "%s: %s", script, strerror(errno));
	for (unsigned i = 0; i < r->n_engines; i++) {
		const struct engine *e = r->engines[i];
		fprintf(f, "$%s << END\n", e->name);
		for (unsigned p = 1; p < e->npoints; p++) {
			double qps = 1 / e->points[p].median, miss = 1 - e->points[p].recall;
			/* Nobody chooses a recall below .70: what lies there would squeeze the rest. */
			far = VX_MAX(far, VX_MIN(miss * 1.1, 0.3));
			low = VX_MIN(low, qps);
			high = VX_MAX(high, qps);
			fprintf(f, "%.6f %.2f %u\n", VX_MAX(miss, 0.0005), qps, e->points[p].ef);
		}
		fprintf(f, "END\n");
	}
	fprintf(f,
		"set title '%s: %zu × %u, %s, one question at a time' font 'sans-Bold,15' "
		"noenhanced\n"
		"set xlabel 'recall\\@10'\nset ylabel 'questions per second'\n"
		"set logscale xy\nset xrange [%g:0.0005]\nset yrange [%.1f:%.1f]\n"
		"set xtics ('.70' 0.3, '.80' 0.2, '.90' 0.1, '.95' 0.05, '.98' 0.02, '.99' 0.01, "
		"'.995' 0.005, '.998' 0.002, '.999' 0.001, '.9995' 0.0005)\n"
		"%sset key bottom left\nplot ",
		r->set->name, r->set->n, r->set->dim, vx_metric_name(r->set->metric), far,
		low * 0.8, high * 1.25, TICS);
	for (unsigned i = 0; i < r->n_engines; i++) {
		fprintf(f, "%s$%s using 1:2 with linespoints title '%s'", sep, r->engines[i]->name,
			label_of(r->engines[i]->name));
		style(f, r->engines[i]->name);
		sep = ", \\\n     ";
	}
	fprintf(f, "\n");
	return run(f, dir, script, err);
}

static void growth_data(FILE *f, const struct growth *g, const char *name)
{
	fprintf(f, "$%s << END\n", name);
	for (unsigned i = 0; i < g->n; i++) {
		for (unsigned j = 0; j < g->at[i].n_engines; j++) {
			if (strcmp(g->at[i].e[j].name, name) == 0 && g->at[i].e[j].at95_s > 0)
				fprintf(f, "%zu %.3f %.1f %.3f\n", g->at[i].rows,
					g->at[i].e[j].at95_s * 1e6, g->at[i].e[j].at95_distances,
					g->at[i].e[j].build_s);
		}
	}
	fprintf(f, "END\n");
}

static int plot_growth(const struct results *r, const char *dir, struct vx_err *err)
{
	const struct growth *g = &r->growth;
	const struct growth_point *last = &g->at[g->n - 1];
	char script[1024];
	FILE *f = begin(dir, r->set->name, "growth", script, sizeof script);

	if (!f)
		return vx_err_set(err, -errno, "%s: %s", script, strerror(errno));
	for (unsigned j = 0; j < last->n_engines; j++)
		growth_data(f, g, last->e[j].name);
	fprintf(f,
		"set multiplot layout 1,2 title '%s: growth, recall@10 = .95' noenhanced "
		"font 'sans-Bold,15'\n"
		"set xlabel 'records'\nset logscale x\nset xtics ('10k' 1e4, '30k' 31623, '100k' "
		"1e5, "
		"'300k' 316228, '1M' 1e6, '3M' 3162278, '10M' 1e7)\nset key top left\n"
		"set xrange [9000:%g]\n",
		r->set->name, 1.1 * (double)last->rows);
	/* Time has the caches in it, which end somewhere; the number of distances has not. */
	for (int col = 2; col <= 3; col++) {
		const char *sep = "";

		fprintf(f, "set ylabel '%s'\nset yrange [0:*]\nplot ",
			col == 2 ? "microseconds per question"
				 : "distances between codes per question");
		for (unsigned j = 0; j < last->n_engines; j++) {
			if (col == 3 && last->e[j].at95_distances <= 0)
				continue;
			fprintf(f, "%s$%s using 1:%d with linespoints title '%s'", sep,
				last->e[j].name, col, label_of(last->e[j].name));
			style(f, last->e[j].name);
			sep = ", \\\n     ";
		}
		if (col == 3 && !*sep)
			fprintf(f, "NaN notitle");
		fprintf(f, "\n");
	}
	fprintf(f, "unset multiplot\n");
	return run(f, dir, script, err);
}

int plot_all(const struct results *r, const char *dir, struct vx_err *err)
{
	if (mkdir(dir, 0777) < 0 && errno != EEXIST)
		return vx_err_set(err, -errno, "%s: %s", dir, strerror(errno));
	int rc = plot_recall(r, dir, err);
	if (rc == 0 && r->growth.n > 1)
		rc = plot_growth(r, dir, err);
	return rc;
}
