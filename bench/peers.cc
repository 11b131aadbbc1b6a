/* peers.cc - hnswlib and faiss behind the bench's table; compiled with -O3 -march=native, so
 * that they run as their users run them. */
#include "system.h"

#include <atomic>
#include <cmath>
#include <cstring>
#include <thread>
#include <vector>

/* Under cosine the peers are given vectors of length 1, as their manuals say. */
static void normalise(const float *v, unsigned dim, float *ret)
{
	double s = 0;
	for (unsigned i = 0; i < dim; i++)
		s += (double)v[i] * v[i];
	float f = s > 0 ? (float)(1 / std::sqrt(s)) : 0;
	for (unsigned i = 0; i < dim; i++)
		ret[i] = v[i] * f;
}

#ifdef HAVE_HNSWLIB
#include <hnswlib/hnswlib.h>

struct hl {
	unsigned dim;
	bool cosine;
	hnswlib::SpaceInterface<float> *space;
	hnswlib::HierarchicalNSW<float> *index;
};

static void *hl_build(const struct dataset *d, unsigned threads)
{
	hl *s = new hl{d->dim, d->cosine, nullptr, nullptr};
	if (d->cosine)
		s->space = new hnswlib::InnerProductSpace(d->dim);
	else
		s->space = new hnswlib::L2Space(d->dim);
	s->index = new hnswlib::HierarchicalNSW<float>(s->space, d->nbase, 16, 200);
	std::atomic<uint32_t> next{1};
	auto add = [&](uint32_t i) {
		std::vector<float> v(d->dim);
		const float *p = d->base + (size_t)i * d->dim;
		if (d->cosine) {
			normalise(p, d->dim, v.data());
			p = v.data();
		}
		s->index->addPoint(p, i);
	};
	add(0);
	std::vector<std::thread> ts;
	for (unsigned t = 0; t < threads; t++)
		ts.emplace_back([&] {
			for (uint32_t i; (i = next.fetch_add(1)) < d->nbase;)
				add(i);
		});
	for (auto &t : ts)
		t.join();
	return s;
}

static void hl_search(void *sys, const float *q, unsigned k, unsigned ef, int64_t *ret)
{
	hl *s = static_cast<hl *>(sys);
	float tmp[65536];
	if (s->cosine) {
		normalise(q, s->dim, tmp);
		q = tmp;
	}
	s->index->setEf(ef ? ef : 10);
	auto r = s->index->searchKnn(q, k);
	for (unsigned i = 0; i < k; i++)
		ret[i] = -1;
	while (!r.empty()) {
		ret[r.size() - 1] = (int64_t)r.top().second;
		r.pop();
	}
}

static unsigned hl_default_ef(void *)
{
	return 10;
}

static void hl_free(void *sys)
{
	hl *s = static_cast<hl *>(sys);
	delete s->index;
	delete s->space;
	delete s;
}

static const struct system_ops hl_ops = {"hnswlib", hl_build, hl_search, hl_default_ef, hl_free};
#endif

#ifdef HAVE_FAISS
#include <faiss/IndexHNSW.h>
#include <omp.h>

struct fa {
	unsigned dim;
	bool cosine;
	faiss::IndexHNSWFlat *index;
};

static void *fa_build(const struct dataset *d, unsigned threads)
{
	fa *s = new fa{d->dim, d->cosine, nullptr};
	s->index = new faiss::IndexHNSWFlat(
		(int)d->dim, 16, d->cosine ? faiss::METRIC_INNER_PRODUCT : faiss::METRIC_L2);
	s->index->hnsw.efConstruction = 200;
	omp_set_num_threads((int)threads);
	if (d->cosine) {
		std::vector<float> v((size_t)d->nbase * d->dim);
		for (size_t i = 0; i < d->nbase; i++)
			normalise(d->base + i * d->dim, d->dim, v.data() + i * d->dim);
		s->index->add(d->nbase, v.data());
	} else {
		s->index->add(d->nbase, d->base);
	}
	omp_set_num_threads(1);
	return s;
}

static void fa_search(void *sys, const float *q, unsigned k, unsigned ef, int64_t *ret)
{
	fa *s = static_cast<fa *>(sys);
	float tmp[65536], dist[1024];
	if (s->cosine) {
		normalise(q, s->dim, tmp);
		q = tmp;
	}
	s->index->hnsw.efSearch = ef ? (int)ef : 16;
	s->index->search(1, q, k, dist, ret);
}

static unsigned fa_default_ef(void *)
{
	return 16;
}

static void fa_free(void *sys)
{
	fa *s = static_cast<fa *>(sys);
	delete s->index;
	delete s;
}

static const struct system_ops fa_ops = {"faiss", fa_build, fa_search, fa_default_ef, fa_free};
#endif

extern "C" const struct system_ops *const system_peers[] = {
#ifdef HAVE_HNSWLIB
	&hl_ops,
#endif
#ifdef HAVE_FAISS
	&fa_ops,
#endif
	nullptr};
