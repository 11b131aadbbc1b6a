/* peers.cc - vec-bench-peers: hnswlib and faiss for vec-bench: one of them, in a process of its own.
 *
 *	vec-bench-peers hnswlib|faiss|list
 *
 * engine.c has the commands that come in by lines.  Compiled with -O3 -march=native, so that the peers run as
 * their users run them; under cosine they are given vectors of length 1, as their manuals say.
 */
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <malloc.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#ifdef HAVE_HNSWLIB
#include <hnswlib/hnswlib.h>
#endif
#ifdef HAVE_FAISS
#include <faiss/IndexHNSW.h>
#include <omp.h>
#endif

namespace
{
constexpr unsigned K = 10;
constexpr uint32_t NO_ROW = UINT32_MAX;
enum metric { COSINE, L2, IP };

struct data {
	char dir[512];
	size_t n = 0, nq = 0;
	unsigned dim = 0;
	metric m = L2;
	const float *base = nullptr, *query = nullptr;
	uint32_t *answers = nullptr;
	double *times = nullptr;
};

double now()
{
	using namespace std::chrono;
	return duration<double>(steady_clock::now().time_since_epoch()).count();
}

double cpu_s()
{
	struct rusage r;
	getrusage(RUSAGE_SELF, &r);
	return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
	       (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1e-6;
}

double thread_cpu_s()
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

unsigned long long anonymous_bytes()
{
	unsigned long long kb = 0;
	char line[256];
	FILE *f = fopen("/proc/self/status", "re");
	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "RssAnon: %llu kB", &kb) == 1)
			break;
	if (f)
		fclose(f);
	return kb << 10;
}

void pin(bool one)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);
	cpu_set_t set;
	CPU_ZERO(&set);
	for (long i = one ? n - 1 : 0; i < n; i++)
		CPU_SET((size_t)i, &set);
	(void)sched_setaffinity(0, sizeof set, &set);
}

void *map(const data &d, const char *name, size_t bytes, bool write)
{
	char path[700];
	snprintf(path, sizeof path, "%s/%s", d.dir, name);
	int fd = open(path, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	if (fd < 0)
		return nullptr;
	void *p = mmap(nullptr, bytes, PROT_READ | (write ? PROT_WRITE : 0),
		MAP_SHARED | MAP_POPULATE, fd, 0);
	close(fd);
	return p == MAP_FAILED ? nullptr : p;
}

void unit(const float *v, unsigned dim, float *ret)
{
	double s = 0;
	for (unsigned i = 0; i < dim; i++)
		s += (double)v[i] * v[i];
	float f = s > 0 ? (float)(1 / std::sqrt(s)) : 0;
	for (unsigned i = 0; i < dim; i++)
		ret[i] = v[i] * f;
}

struct peer {
	virtual ~peer() = default;
	virtual void build(const data &d, size_t n, unsigned threads) = 0;
	virtual void set_ef(unsigned ef) = 0;
	virtual void search(const float *q, uint32_t *ret) = 0; /* by any thread */
	virtual unsigned default_ef() = 0;
};

#ifdef HAVE_HNSWLIB
struct hnswlib_peer : peer {
	std::unique_ptr<hnswlib::SpaceInterface<float>> space;
	std::unique_ptr<hnswlib::HierarchicalNSW<float>> index;

	void build(const data &d, size_t n, unsigned threads) override
	{
		if (d.m == L2)
			space = std::make_unique<hnswlib::L2Space>(d.dim);
		else
			space = std::make_unique<hnswlib::InnerProductSpace>(d.dim);
		index = std::make_unique<hnswlib::HierarchicalNSW<float>>(space.get(), n, 16, 200);
		std::atomic<size_t> next{1};
		auto add = [&](size_t i, float *tmp) {
			const float *p = d.base + i * d.dim;
			if (d.m == COSINE) {
				unit(p, d.dim, tmp);
				p = tmp;
			}
			index->addPoint(p, i);
		};
		std::vector<float> first(d.dim);
		add(0, first.data());
		std::vector<std::thread> ts;
		for (unsigned t = 0; t < threads; t++)
			ts.emplace_back([&] {
				std::vector<float> tmp(d.dim);
				for (size_t i; (i = next.fetch_add(1)) < n;)
					add(i, tmp.data());
			});
		for (auto &t : ts)
			t.join();
	}
	void set_ef(unsigned ef) override
	{
		index->setEf(ef ? ef : default_ef());
	}
	void search(const float *q, uint32_t *ret) override
	{
		auto r = index->searchKnn(q, K);
		std::fill(ret, ret + K, NO_ROW);
		while (!r.empty()) {
			ret[r.size() - 1] = (uint32_t)r.top().second;
			r.pop();
		}
	}
	unsigned default_ef() override
	{
		return 10;
	}
};
#endif

#ifdef HAVE_FAISS
struct faiss_peer : peer {
	std::unique_ptr<faiss::IndexHNSWFlat> index;

	void build(const data &d, size_t n, unsigned threads) override
	{
		index = std::make_unique<faiss::IndexHNSWFlat>(
			(int)d.dim, 16, d.m == L2 ? faiss::METRIC_L2 : faiss::METRIC_INNER_PRODUCT);
		index->hnsw.efConstruction = 200;
		omp_set_num_threads((int)threads);
		if (d.m == COSINE) {
			std::vector<float> v(n * d.dim);
			for (size_t i = 0; i < n; i++)
				unit(d.base + i * d.dim, d.dim, v.data() + i * d.dim);
			index->add((faiss::Index::idx_t)n, v.data());
		} else {
			index->add((faiss::Index::idx_t)n, d.base);
		}
		omp_set_num_threads(1);
	}
	void set_ef(unsigned ef) override
	{
		index->hnsw.efSearch = (int)(ef ? ef : default_ef());
	}
	void search(const float *q, uint32_t *ret) override
	{
		float dist[K];
		faiss::Index::idx_t ids[K];
		index->search(1, q, K, dist, ids);
		for (unsigned i = 0; i < K; i++)
			ret[i] = ids[i] < 0 ? NO_ROW : (uint32_t)ids[i];
	}
	unsigned default_ef() override
	{
		return 16;
	}
};
#endif

std::unique_ptr<peer> make_peer(const char *name)
{
#ifdef HAVE_HNSWLIB
	if (strcmp(name, "hnswlib") == 0)
		return std::make_unique<hnswlib_peer>();
#endif
#ifdef HAVE_FAISS
	if (strcmp(name, "faiss") == 0)
		return std::make_unique<faiss_peer>();
#endif
	return nullptr;
}

struct bench {
	const char *name;
	data d;
	std::unique_ptr<peer> p;
	std::vector<float> units; /* the questions at length 1, under cosine */

	const float *question(size_t i) const
	{
		return (d.m == COSINE ? units.data() : d.query) + i * d.dim;
	}

	const char *load(const char *args)
	{
		char m[16];
		if (sscanf(args, "%511s %zu %zu %u %15s", d.dir, &d.n, &d.nq, &d.dim, m) != 5)
			return "bad load";
		d.m = strcmp(m, "cosine") == 0 ? COSINE : strcmp(m, "ip") == 0 ? IP : L2;
		char answers[64], times[64];
		snprintf(answers, sizeof answers, "%s.answers", name);
		snprintf(times, sizeof times, "%s.times", name);
		d.base = (const float *)map(d, "base.f32", d.n * d.dim * sizeof(float), false);
		d.query = (const float *)map(d, "query.f32", d.nq * d.dim * sizeof(float), false);
		d.answers = (uint32_t *)map(d, answers, d.nq * K * sizeof(uint32_t), true);
		d.times = (double *)map(d, times, d.nq * sizeof(double), true);
		if (!d.base || !d.query || !d.answers || !d.times)
			return "cannot map the data";
		if (d.m == COSINE) {
			units.resize(d.nq * d.dim);
			for (size_t i = 0; i < d.nq; i++)
				unit(d.query + i * d.dim, d.dim, units.data() + i * d.dim);
		}
		printf("ok\n");
		return nullptr;
	}

	const char *build(const char *args)
	{
		size_t n;
		unsigned threads;
		if (sscanf(args, "%zu %u", &n, &threads) != 2 || n > d.n)
			return "bad build";
		p.reset();
		p = make_peer(name);
		malloc_trim(0);
		unsigned long long before = anonymous_bytes();
		double t = now(), c = cpu_s();
		p->build(d, n, threads);
		t = now() - t;
		c = cpu_s() - c;
		malloc_trim(0);
		unsigned long long after = anonymous_bytes();
		printf("ok %.6f %.6f %llu 0 %u\n", t, c, after > before ? after - before : 0,
			p->default_ef());
		return nullptr;
	}

	const char *search(const char *args)
	{
		unsigned ef;
		int each;
		if (!p || sscanf(args, "%u %d", &ef, &each) != 2)
			return "bad search";
		p->set_ef(ef);
		pin(true);
		double t0 = now(), t = t0, c = thread_cpu_s();
		for (size_t i = 0; i < d.nq; i++) {
			p->search(question(i), d.answers + i * K);
			if (each) {
				double u = now();
				d.times[i] = (u - t) * 1e6;
				t = u;
			}
		}
		t0 = now() - t0;
		c = thread_cpu_s() - c;
		pin(false);
		printf("ok %.9f %.9f\n", t0, c);
		return nullptr;
	}

	const char *parallel(const char *args)
	{
		unsigned ef, threads;
		double seconds;
		if (!p || sscanf(args, "%u %u %lf", &ef, &threads, &seconds) != 3)
			return "bad parallel";
		p->set_ef(ef);
		std::atomic<uint64_t> done{0};
		double t0 = now();
		std::vector<std::thread> ts;
		for (unsigned t = 0; t < threads; t++)
			ts.emplace_back([&, t] {
				uint32_t rows[K];
				uint64_t mine = 0;
				for (size_t i = t * d.nq / threads; now() < t0 + seconds; i++, mine++)
					p->search(question(i % d.nq), rows);
				done += mine;
			});
		for (auto &t : ts)
			t.join();
		printf("ok %.1f\n", (double)done / (now() - t0));
		return nullptr;
	}
};
} // namespace

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "list") == 0) {
		for (const char *name : {"hnswlib", "faiss"})
			if (make_peer(name))
				printf("%s\n", name);
		return 0;
	}
	bench b;
	if (argc != 2 || !make_peer(argv[1])) {
		printf("error this vec-bench-peers was built without %s\n",
			argc == 2 ? argv[1] : "it");
		return 2;
	}
	b.name = argv[1];
	char line[2048];
	while (fgets(line, sizeof line, stdin)) {
		const char *why = "unknown command";
		try {
			if (strncmp(line, "load ", 5) == 0)
				why = b.load(line + 5);
			else if (strncmp(line, "build ", 6) == 0)
				why = b.build(line + 6);
			else if (strncmp(line, "search ", 7) == 0)
				why = b.search(line + 7);
			else if (strncmp(line, "parallel ", 9) == 0)
				why = b.parallel(line + 9);
			else if (strncmp(line, "quit", 4) == 0)
				break;
		} catch (const std::exception &e) {
			why = e.what();
		}
		if (why)
			printf("error %s\n", why);
		fflush(stdout);
	}
	return 0;
}
